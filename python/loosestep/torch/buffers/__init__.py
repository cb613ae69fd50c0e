"""Buffers of a torch model: set alike, exchanged, and batch normalization over all workers."""
