"""Runs: the loop of the library and that of a user, over any transport."""
