"""Composition: a recipe becomes a run folder. The only room that knows all rooms."""
