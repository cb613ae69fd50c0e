"""PyTorch: a user's own loop made parallel, or his network in a loop that the library owns."""
