"""What many tests of cards need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cuda.carriers import Carrier, Emulated, on_device
from tests.cuda.stub import Card, stub_card

from loosestep.cuda import device as cards


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Card]:
    monkeypatch.setattr(cards, "names", lambda: ["Stub"])
    with stub_card(monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture(params=["emulated", pytest.param("card", marks=pytest.mark.gpu)])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    return on_device() if request.param == "card" else Emulated(request.getfixturevalue("card"))


@pytest.fixture
def cupy() -> Any:
    """Of a card."""
    return on_device().cupy
