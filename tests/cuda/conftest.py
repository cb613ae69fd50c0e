"""What many tests of cards need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cuda.stub import Card, stub_card


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Card]:
    with stub_card(monkeypatch, tmp_path) as made:
        yield made
