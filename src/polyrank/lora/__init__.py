"""Low-rank factors: what they are, their algebra, the layer that trains them, PEFT's format."""
