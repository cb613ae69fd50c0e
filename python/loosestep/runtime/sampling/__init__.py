"""Samplers in a run: whose noise it is, and where draws are kept."""
