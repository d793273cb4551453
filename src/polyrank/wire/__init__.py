"""Messages as bytes: packing them, counting them, and refusing what does not fit."""
