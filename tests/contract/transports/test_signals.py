"""Which signals a run heeds, and when: without processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.runtime.result import Ended, Interrupted, Terminated
from loosestep.runtime.signals import interruptible

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_heeded_once_and_handlers_come_back(number: int) -> None:
    before = [signal.getsignal(each) for each in BOTH]
    asked: list[int] = []
    with interruptible(asked.append):
        os.kill(os.getpid(), number)
        assert asked == [number]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert asked == [number]
    assert [signal.getsignal(each) for each in BOTH] == before


def test_a_handler_of_the_users_keeps_sigterm() -> None:
    asked: list[Any] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append("theirs"))
    try:
        with interruptible(asked.append):
            os.kill(os.getpid(), signal.SIGTERM)
        assert asked == ["theirs"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_is_not_pythons_keeps_sigint(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a program that embeds Python: `signal.getsignal` knows None, which cannot be set again."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with interruptible(lambda number: None):
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_than_the_main_one_takes_no_signals() -> None:
    seen: list[Any] = []

    def go() -> None:
        with interruptible(seen.append):
            seen.append([signal.getsignal(number) for number in BOTH])

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert seen == [[signal.getsignal(number) for number in BOTH]]


@pytest.mark.parametrize("number", BOTH)
def test_a_forked_copy_ends_as_any_process_does(number: int) -> None:
    """As the processes of a DataLoader, which are ended by SIGTERM."""
    asked: list[int] = []
    with interruptible(asked.append):
        pid = os.fork()
        if pid == 0:
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                os._exit(130)
            os._exit(99)
        wanted = 130 if number == signal.SIGINT else -number
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == wanted
    assert asked == []


@pytest.mark.parametrize("number", BOTH)
def test_what_is_raised_says_which_signal_it_was(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[int] = []

    def gradient(x: Any, batch: Any) -> Any:
        if batch == 5 and not sent:
            sent.append(batch)
            os.kill(os.getpid(), number)
        return x - batch

    with pytest.raises(ls.Interrupted) as caught:
        ls.run(ls.LocalSGD(4), gradient, np.zeros(3), lambda rank, size: iter(range(100)), on=ls.Simulated(2))
    assert caught.value.signal == number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.result.steps < 20
    told = capsys.readouterr().err
    by = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[signal.Signals(number)]
    assert told == f"loosestep: {caught.value} by {by}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_program_that_does_not_catch_it_ends_with_the_exit_code_of_the_signal(number: int, code: int) -> None:
    program = f"""
import os, numpy as np, loosestep as ls
def gradient(x, batch):
    if batch == 5:
        os.kill(os.getpid(), {int(number)})
    return x - batch
ls.run(ls.LocalSGD(4), gradient, np.zeros(3), lambda rank, size: iter(range(100)), on=ls.Simulated(1))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code
    assert ended.stderr.startswith("loosestep: interrupted after step ")


def test_the_exit_code_after_sigterm_is_143(monkeypatch: pytest.MonkeyPatch) -> None:
    result: Any = type("Result", (), {"steps": 7})()
    error = Interrupted.by(signal.SIGTERM, result)
    assert isinstance(error, Terminated)
    assert isinstance(error, SystemExit)
    assert (error.code, str(error), error.result) == (143, "interrupted after step 7", result)
    assert isinstance(Interrupted.by(signal.SIGINT, result), Ended)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert not isinstance(Interrupted.by(signal.SIGINT, result), SystemExit), "it would end the session"
