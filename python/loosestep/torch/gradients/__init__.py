"""Gradients of a torch loop: counted, sent while backward() computes them, given to the optimizer."""
