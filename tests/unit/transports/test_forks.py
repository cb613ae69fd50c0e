"""A forked copy is told from the original by its process number; no test forks."""

from __future__ import annotations

from typing import Any

import pytest

from loosestep.transports import forks
from loosestep.transports.forks import Original, end_copy


class Left(BaseException):
    """What stands in for the end of the process."""

    def __init__(self, code: int) -> None:
        self.code = code


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(forks.os, "_exit", leave)


def test_the_original_is_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Original()
    assert original.here
    original.require(3)
    monkeypatch.setattr(forks.os, "getpid", lambda: 41)
    assert not original.here
    with pytest.raises(RuntimeError, match=r"^process 41 is a copy \(os.fork\) of that of worker 3, and takes no"):
        original.require(3)


@pytest.mark.parametrize(
    ("cause", "code", "told"),
    [
        (ValueError("boo"), 1, "ValueError: boo"),
        (SystemExit(7), 7, ""),
        (SystemExit(), 0, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("words"), 1, "words"),
    ],
)
def test_a_copy_ends_with_the_code_of_what_it_raised(
    cause: Any, code: int, told: str, exits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Left) as left:
        end_copy(cause)
    assert left.value.code == code
    assert told in capsys.readouterr().err
