"""A Flower app that exchanges one array and computes nothing."""
