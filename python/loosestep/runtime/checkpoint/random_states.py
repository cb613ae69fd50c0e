"""The global generators of random numbers that every training script may draw from: numpy's and Python's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from loosestep.runtime.checkpoint.folder import Facts

Tensors = dict[str, Any]
NUMPY = "MT19937"
"""The algorithm of numpy's global generator, unless a script has replaced it: then its state is left alone."""


def save_random_states(tensors: Tensors) -> Facts:
    """Put the states into `tensors`, and return what of them is JSON."""
    facts: Facts = {}
    version, words, gauss = random.getstate()
    tensors["random.python"] = np.array(words, np.uint64)
    facts["python"] = [version, gauss]
    of_numpy: Any = np.random.get_state(legacy=False)
    if of_numpy["bit_generator"] == NUMPY:
        tensors["random.numpy"] = of_numpy["state"]["key"]
        facts["numpy"] = [of_numpy["state"]["pos"], of_numpy["has_gauss"], of_numpy["gauss"]]
    return facts


def load_random_states(tensors: Tensors, facts: Facts) -> None:
    """Let the generators go on drawing where the checkpoint stood, as far as it knows them."""
    if "python" in facts:
        version, gauss = facts["python"]
        random.setstate((version, tuple(map(int, tensors["random.python"])), gauss))
    if "numpy" in facts:
        np.random.set_state((NUMPY, tensors["random.numpy"], *facts["numpy"]))
