"""Checkpoints: what of a run is saved, in which files, and which of them counts."""
