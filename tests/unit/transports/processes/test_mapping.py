"""Memory that the first of a host makes and the others open; it has no name once all have it."""

from __future__ import annotations

import os
import time
from math import inf
from typing import Any

import numpy as np
import pytest
from tests.unit.hosts import HostCalls, on_one_host

from loosestep import _core
from loosestep.transports.processes.mapping import Memories, map_collectives, map_memory

GROUP = (0, 1, 2)


def buffer(calls: HostCalls) -> Any:
    def opened(path: Any, new: bool) -> Any:
        calls.log.append("made" if new else "opened")
        return _core.HostBuffer(path, 4, "float64", new)

    return map_memory(calls, GROUP, "x", _core.HostBuffer.needed(4, "float64"), opened)  # type: ignore[arg-type]


def test_what_one_writes_all_see() -> None:
    held = on_one_host(3, buffer)
    held[1].array[:] = [1, 2, 3, 4]
    assert [each.array.tolist() for each in held] == [[1, 2, 3, 4]] * 3
    for each in held:
        each.close()


def test_the_first_makes_it_and_lets_go_of_the_file_when_all_have_it() -> None:
    logs, open_files = [], len(os.listdir("/proc/self/fd"))

    def make(calls: HostCalls) -> Any:
        logs.append(calls.log)
        return buffer(calls)

    held = on_one_host(3, make)
    assert logs == [["made", "x mapped"], ["opened", "x mapped"], ["opened", "x mapped"]]
    assert len(os.listdir("/proc/self/fd")) == open_files
    for each in held:
        each.close()


def memories() -> list[Memories]:
    hosts = on_one_host(3, lambda calls: map_collectives(calls, GROUP, _core.Host, "c"))  # type: ignore[arg-type]
    made = [Memories(GROUP) for _ in hosts]
    for each, host in zip(made, hosts, strict=True):
        each.hosts.append(host)
    return made


def test_collectives_in_it_are_counted_and_ended_by_any() -> None:
    made = memories()
    before = [each.moved for each in made]
    for _ in range(2):
        said = [each.hosts[0].all_reduce(np.ones(2), "sum", 1.0, 0.0) for each in made]
    assert said[-1] == "done" or all(each.moved > start for each, start in zip(made, before, strict=True))
    made[1].abort()
    assert made[0].hosts[0].barrier(0.0) == made[2].hosts[0].barrier(0.0) == "aborted"
    for each in made:
        each.close()
    with pytest.raises(ValueError, match="closed"):
        made[0].hosts[0].barrier(0.0)


def test_the_core_of_each_shows_that_it_lives() -> None:
    made = memories()
    assert all(abs(made[0].last_heard(rank) - time.monotonic()) < 60 for rank in GROUP)
    assert made[0].last_heard(3) == -inf, "of another host nothing is known"
    assert Memories(GROUP).last_heard(0) == -inf, "nor before anything is mapped"
    for each in made:
        each.close()
