"""Writing what is recorded to other programs too: the records stay the truth."""
