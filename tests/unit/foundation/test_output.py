"""What was printed is not lost where a process ends in the middle of a hook."""

from __future__ import annotations

import io
import sys

import pytest

from loosestep.foundation import output


def test_what_a_hook_holds_back_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", real)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    print("ValueError: here", file=sys.stderr)
    output.flush()
    assert real.getvalue() == "ValueError: here\n"


def test_streams_that_are_not_there_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, None)
    output.flush()
