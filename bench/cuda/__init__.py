"""Benchmarks on a card: `python -m bench NAME --device cuda` runs the module of that name in this folder."""
