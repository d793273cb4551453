"""A Flower app that runs a polyrank recipe."""
