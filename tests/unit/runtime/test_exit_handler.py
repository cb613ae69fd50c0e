"""The end of a script closes what is open, and its exit code is that which the other workers were told."""

from __future__ import annotations

import _thread
import atexit
import builtins
import os
import sys
import threading
import time
from typing import Any

import pytest

from loosestep.runtime import exit_handler
from loosestep.runtime.exit_handler import Exit, ExitHandler


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the codes by which the process would end at once."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    monkeypatch.setattr(ExitHandler, "code", None)
    monkeypatch.setattr(ExitHandler, "final_code", None)
    return found


def test_what_is_a_success() -> None:
    assert [exit_handler.is_success(code) for code in (0, None, False)] == [True] * 3
    assert [exit_handler.is_success(code) for code in (3, -1, "", "no data", 0.0)] == [False] * 5


@pytest.mark.parametrize("code", [3, 0, None, "no data"])
def test_while_one_is_open_the_functions_that_end_a_script_raise_an_exit(code: Any) -> None:
    before = [getattr(place, name, None) for place, name in exit_handler.PLACES]
    one, other = ExitHandler(lambda: None), ExitHandler(lambda: None)
    for function in (sys.exit, *(getattr(builtins, name) for name in ("exit", "quit") if hasattr(builtins, name))):
        with pytest.raises(Exit) as caught:
            function(code)
        assert caught.value.code == code
    assert ExitHandler.code is None, "it was caught"
    one.close()
    assert sys.exit is exit_handler.exit_by, "the other is open"
    other.close()
    other.close()
    assert [getattr(place, name, None) for place, name in exit_handler.PLACES] == before
    with pytest.raises(SystemExit) as plain:
        sys.exit(code)
    assert type(plain.value) is SystemExit


def test_the_code_is_noted_where_the_interpreter_reads_it() -> None:
    """A thread's first function is called by no Python code, as the interpreter calls nothing else at the end."""
    _thread.start_new_thread(Exit.code.fget, (Exit(5),))  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while ExitHandler.code is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ExitHandler.code == 5


def test_an_exit_of_another_thread_or_process_is_an_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = ExitHandler(lambda: None)
    raised: list[type] = []

    def leave() -> None:
        try:
            sys.exit(3)
        except SystemExit as error:
            raised.append(type(error))

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(10)
    leave()
    monkeypatch.setattr(handler, "process", -1)
    leave()
    assert raised == [SystemExit, Exit, SystemExit]


def test_the_end_of_the_script_closes_once_and_in_its_own_process(codes: list[int]) -> None:
    closed: list[str] = []
    handler = ExitHandler(lambda: closed.append("closed"))
    handler.end()
    assert (closed, codes) == (["closed"], [])
    handler.process = -1  # as in a forked process
    handler.end()
    assert closed == ["closed"]


def test_the_end_is_registered_anew_with_each_since_a_wire_may_have_come_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was registered last is called first."""
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(
        atexit, "unregister", lambda function: function in registered and registered.remove(function)
    )
    for wire in ("MPI", "ZeroMQ"):
        registered.append(wire)
        ExitHandler(lambda: None)
    assert registered == ["MPI", "ZeroMQ", exit_handler.end_all]


def test_all_that_are_open_are_closed_before_the_process_ends_at_once(codes: list[int]) -> None:
    """The error of one sets the code by which the process ends, and the others' workers wait to be told too."""
    log: list[Any] = []

    def closed(name: str) -> None:
        log.append((name, list(codes)))
        exit_handler.end_with(3)

    handlers = [ExitHandler(lambda name=name: closed(name)) for name in ("first", "closed before", "last")]
    handlers[1].close()
    exit_handler.end_all()
    assert log == [("last", []), ("first", [])]
    assert codes == [3]


def test_an_error_at_the_end_is_shown_and_makes_the_code_1(
    codes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("no consensus")

    ExitHandler(fail).end()
    assert codes == [1]
    assert capsys.readouterr().err.endswith("ValueError: no consensus\n")


@pytest.mark.parametrize(("code", "ends"), [(3, 3), (0, 0), (-1, 255), (256, 0), ("no data", 1)])
def test_the_process_ends_with_the_code_that_others_were_told(code: Any, ends: int, codes: list[int]) -> None:
    exit_handler.exit_at_once()
    assert codes == [], "nobody was told of one"
    exit_handler.end_with(code)
    exit_handler.exit_at_once()
    assert codes == [ends]
