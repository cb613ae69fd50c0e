"""Where the threads of this process are."""

from __future__ import annotations

import threading

from loosestep.foundation import stacks


def deep(level: int) -> str:
    return deep(level - 1) if level else stacks.stacks()


def test_the_main_thread_is_where_it_is() -> None:
    file, _, number = stacks.line().rpartition(":")
    assert file.endswith("stacks.py")
    assert number.isdigit()


def test_every_other_thread_is_shown_by_name_and_the_main_one_last() -> None:
    ready, over = threading.Event(), threading.Event()

    def stay_here() -> None:
        ready.set()
        over.wait(20)

    thread = threading.Thread(target=stay_here, name="some worker")
    thread.start()
    ready.wait(20)
    told = stacks.stacks()
    over.set()
    thread.join(20)
    heads = [line for line in told.splitlines() if line.startswith("thread ")]
    assert "thread some worker:" in heads
    assert heads[-1] == "thread MainThread:"
    assert "in stay_here" in told


def test_of_a_deep_stack_the_innermost_calls_are_shown() -> None:
    told = deep(3 * stacks.DEEPEST)
    assert told.count("File ") <= stacks.DEEPEST * told.count("thread ")
    assert "in stacks" in told.splitlines()[-2] or "in stacks" in told
