"""Benchmarks on a GPU: `python -m bench NAME --device cuda` runs the module of that name in this folder."""
