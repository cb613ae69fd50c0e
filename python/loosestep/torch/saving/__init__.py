"""Checkpoints of a torch loop: what is in them, and how they are written and read."""
