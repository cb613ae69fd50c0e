"""Parallel SGD that need not march in lockstep."""
