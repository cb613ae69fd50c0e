"""Checkpoints: what is saved of a run, in which files, and which checkpoint a run resumes from."""
