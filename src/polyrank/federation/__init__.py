"""A federation on real machines: its files, its processes on one machine, how it is doing.

Flower is spoken to by its own commands only; what runs in them is `polyrank.flower`.
"""
