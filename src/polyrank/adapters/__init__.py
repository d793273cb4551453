"""Finished adapters: made one, cut, merged into their base, and looked at; no training."""
