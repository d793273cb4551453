"""Where labelled texts come from, how clients share them, and how they become batches."""
