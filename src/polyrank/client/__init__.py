"""What a client does: hold the base model, place factors in it, train them."""
