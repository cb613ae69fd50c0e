"""A worker that rests: rounds pass in ready(), or in a step that makes none, whose gradient is dropped."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from loosestep.runtime.resting import Resting


class Rester(Resting):
    """One whose loop passes rounds as the test says."""

    def __init__(self, *passed: bool) -> None:
        self.log: list[str] = []
        self.passed = list(passed)
        self.loop: Any = SimpleNamespace(between_steps=self.log.append, to_gradient=self.to_gradient, begun=True)
        self.model = SimpleNamespace(flat=self.flat)
        self._require_own = lambda what: self.log.append(f"own {what}")

    @contextmanager
    def flat(self) -> Any:
        self.log.append("flat")
        yield
        self.log.append("back")

    def to_gradient(self) -> bool:
        return self.passed.pop(0)


def test_rounds_pass_between_steps() -> None:
    one = Rester(True)
    one.ready()
    assert one.log == ["own ready()", "ready()", "flat", "back"]
    assert one.dropped is False, "no gradient was taken before"


@pytest.mark.parametrize("passed", [False, True])
def test_a_gradient_is_dropped_if_rounds_passed_since(passed: bool) -> None:
    one = Rester(passed)
    assert one._has_rested() is passed
    assert (one.dropped, one.loop.begun) == (passed, not passed)


def test_what_was_dropped_stays_so_until_the_step_has_seen_it() -> None:
    one = Rester(True)
    assert one._has_rested()
    assert one._has_rested(), "and no round passes again"
    one.dropped = False
