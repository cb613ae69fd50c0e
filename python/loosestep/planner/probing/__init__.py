"""Measures a cluster, so that the simulator can have its prices: patterns, repetitions, and what they mean."""
