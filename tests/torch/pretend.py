"""Networks that say that they lie on a card, while the CPU holds them: kernels are emulated, all else is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cuda.stub import Card, stub_card

from loosestep.adapters.torch import flat, resident


@contextmanager
def pretended(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Card]:
    """Every tensor is taken for one that lies on a card, whose current stream is number 7."""
    for module in (flat, resident):
        patch.setattr(module, "lies_on_card", lambda tensor: True)
    patch.setattr(resident.Resident, "__cuda_stream__", lambda self: (0, 7))
    with stub_card(patch, folder) as card:
        yield card
