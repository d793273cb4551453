"""Across machines: the same recipe on Flower. Only this room knows of Flower."""
