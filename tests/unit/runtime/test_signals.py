"""The first signal asks, the second ends; handlers are as they were afterwards. No process is sent any."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from loosestep.runtime import signals
from loosestep.runtime.signals import interruptible

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def pythons_own() -> Iterator[None]:
    """As in a program of its own; afterwards as pytest has it."""
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def deliver(number: int) -> None:
    """What Python does with a signal."""
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_asks_with_its_number(number: int) -> None:
    asked: list[int] = []
    with interruptible(asked.append):
        deliver(number)
    assert asked == [number]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_ctrl_c_ends_now() -> None:
    asked: list[int] = []
    with interruptible(asked.append):
        deliver(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            deliver(signal.SIGINT)
    assert asked == [signal.SIGTERM]


def test_a_second_sigterm_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(signals.os, "kill", lambda pid, number: killed.append((pid, number)))
    with interruptible(lambda number: None):
        deliver(signal.SIGTERM)
        deliver(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert killed == [(os.getpid(), signal.SIGTERM)]


def test_a_forked_copy_ends_at_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    with interruptible(asked.append):
        monkeypatch.setattr("os.getpid", lambda: 41)
        with pytest.raises(KeyboardInterrupt):
            deliver(signal.SIGINT)
        monkeypatch.undo()
    assert asked == []


def test_a_programs_own_sigterm_is_left_alone() -> None:
    mine: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: mine.append(number))
    asked: list[int] = []
    with interruptible(asked.append):
        deliver(signal.SIGTERM)
        deliver(signal.SIGINT)
    assert (mine, asked) == ([signal.SIGTERM], [signal.SIGINT])


def test_handlers_come_back_after_an_error() -> None:
    with pytest.raises(ValueError, match="boo"), interruptible(lambda number: None):
        raise ValueError("boo")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_has_no_signals() -> None:
    entered: list[bool] = []

    def inside() -> None:
        with interruptible(lambda number: None):
            entered.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join(10)
    assert entered == [True]
