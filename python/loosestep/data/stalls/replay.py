"""Random states put back, so that every run of a measurement draws the same samples in the same order."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


class Replay:
    """The states of Python's, numpy's and torch's default generators, and of a DataLoader's own."""

    def __init__(self, loader: object) -> None:
        self.restorers: list[Callable[[], object]] = []
        self._keep(random.getstate, random.setstate)
        self._keep(np.random.get_state, np.random.set_state)
        torch: Any = sys.modules.get("torch")  # where the loop uses it
        if torch is not None:
            self._keep(torch.get_rng_state, torch.set_rng_state)
        owners = [loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler"))]
        for generator in {
            id(found): found for owner in owners if (found := getattr(owner, "generator", None))
        }.values():
            if hasattr(generator, "get_state") and hasattr(generator, "set_state"):
                self._keep(generator.get_state, generator.set_state)

    def _keep(self, get: Callable[[], Any], put: Callable[[Any], object]) -> None:
        state = get()
        self.restorers.append(lambda: put(state))

    def restore(self) -> None:
        """Put all of them back."""
        for restore in self.restorers:
            restore()
