"""What one case of a fuzz is drawn from, and its word for a refusal."""

from __future__ import annotations

from pathlib import Path
from random import Random


def sentence(error: BaseException, *names: object) -> str:
    """The word for a refusal, which says something, and names what it is about."""
    text = str(error)
    assert len(text) > 10, f"{error!r} says nothing"
    for name in names:
        assert str(name) in text, f"{name} is not named: {text}"
    return "sentence"


class Draw(Random):
    """Random numbers of one case, how many of its kind were before it, and an empty folder."""

    def __new__(cls, text: str, turn: int, folder: Path) -> Draw:
        return super().__new__(cls, text)

    def __init__(self, text: str, turn: int, folder: Path) -> None:
        super().__init__(text)
        self.turn, self.folder = turn, folder
