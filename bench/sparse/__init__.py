"""Benchmarks of models of sparse data, by their names, and what they read."""
