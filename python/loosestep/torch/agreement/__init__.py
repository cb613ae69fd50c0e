"""What all workers of a torch loop agree on, between two steps of it."""
