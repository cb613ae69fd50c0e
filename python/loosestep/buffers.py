"""Flat aligned buffers."""

import numpy as np


def zeros(n, dtype):
    return np.zeros(n, dtype)


def like(x):
    return np.zeros(x.size, x.dtype)
