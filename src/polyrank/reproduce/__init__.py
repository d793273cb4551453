"""Experiments that reproduce what papers, and this project, claim."""
