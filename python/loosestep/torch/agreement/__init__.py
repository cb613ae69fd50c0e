"""Agreement in a torch loop: what of it knows tensors and modules."""
