"""What all workers of a user's loop agree on, between two steps of it."""
