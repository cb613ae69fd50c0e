"""Memory that the first of a host makes and the others open; it has no name once all have it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from math import inf
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.unit.hosts import HostCalls, on_one_host

from loosestep import _core
from loosestep.foundation import buffers
from loosestep.lowering.host_forms import Forms
from loosestep.transports.processes import mapping as module
from loosestep.transports.processes.mapping import Arena, Memories, map_arena, map_collectives, map_memory, place

GROUP, PAIR = (0, 1, 2), (0, 1)
LARGE = np.arange(6000, dtype=np.float64).reshape(2, 3000)
HUGE = np.ones(module.MEASURED_FROM // 8)


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


# --- the arena ---------------------------------------------------------------------------------------------


class Calls(HostCalls):
    """Every rank's word is known to all; `differs` says what one says otherwise."""

    differs: ClassVar[dict[str, Any]] = {}

    def all_gather_object(self, name: str, mine: Any) -> Any:
        self.known.setdefault(name, None)
        known = super().all_gather_object(name, mine)()
        if name == "arena mapped":
            self.barrier(name)
            known = [True, self.known.get("second", True)]
        return lambda: self.differs.get(name, known)


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "CHOSEN", {})
    monkeypatch.setattr(Calls, "differs", {})
    yield
    assert buffers.ARENAS == []


def both(make: Any) -> list[Any]:
    known: dict[str, Any] = {}
    calls = [Calls(rank, 2, known) for rank in PAIR]
    made: list[Any] = [None, None]

    def other() -> None:
        calls[0].meanwhile = lambda: None
        made[1] = make(calls[1])

    calls[0].meanwhile = other
    made[0] = make(calls[0])
    if made[1] is None:
        other()
    return made


def mapped() -> list[Arena]:
    found = both(lambda calls: map_arena(calls, PAIR))
    assert all(found)
    return found


def test_buffers_like_one_in_an_arena_are_there_too() -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    first, second = mapped()
    assert len(os.listdir("/proc/self/fd")) == open_files + 2, "one for each that maps it"
    x = first.copy_of(LARGE)
    y = buffers.like(second.copy_of(LARGE))
    assert (x.shape, x.dtype, x.tolist()) == ((6000,), LARGE.dtype, LARGE.reshape(-1).tolist())
    assert [first.holds(x), second.holds(y), first.holds(y), y.any()] == [True, True, False, False]
    assert first.holds(buffers.copy_of(x[10:5000]))
    assert not first.holds(buffers.like(x, 20)), "small ones are not"
    assert not any(each.holds(buffers.like(np.ones(6000))) for each in (first, second))
    for each in (first, second):
        each.close()
        each.close()
    assert x.tolist() == LARGE.reshape(-1).tolist()
    assert not first.holds(buffers.like(x))
    del x, y, each


def test_what_has_no_room_is_private_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = mapped()

    class Full:
        holds = staticmethod(first.core.holds)
        close = staticmethod(first.core.close)

        @staticmethod
        def allocate(size: int) -> None:
            return None

    x = first.copy_of(LARGE)
    first.core = Full  # type: ignore[assignment]
    assert not any(first.holds(buffers.copy_of(x)) for _ in range(2))
    assert buffers.copy_of(x).tolist() == x.tolist()
    said = capsys.readouterr().err
    assert said.count("no room for a buffer of 48000 bytes in memory that this host's ranks share") == 1
    first.close()
    second.close()


def test_where_one_cannot_map_it_none_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = _core.HostArena

    class Refusing:
        make = real.make

        def __new__(cls, path: Any, size: int, rank: int, create: bool) -> Any:
            if rank == 1:
                raise OSError(12, "shared memory cannot be mapped")
            return real(path, size, rank, create)

    monkeypatch.setattr(module._core, "HostArena", Refusing)

    def make(calls: Calls) -> Any:
        if calls.rank == 1:
            calls.known["second"] = False
        return map_arena(calls, PAIR)  # type: ignore[arg-type]

    assert both(make) == [None, None]
    assert "cannot be mapped: buffers are private, and collectives copy them" in capsys.readouterr().err


def test_where_it_cannot_be_made_none_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refusing:
        @staticmethod
        def make(size: int) -> int:
            raise OSError(27, "shared memory is over this process's limit of files")

    monkeypatch.setattr(module._core, "HostArena", Refusing)

    def make(calls: Calls) -> Any:
        calls.known["second"] = False
        return map_arena(calls, PAIR)  # type: ignore[arg-type]

    assert both(make) == [None, None]
    assert capsys.readouterr().err.count("limit of files: buffers are private") == 1


def pair() -> list[Memories]:
    made = [Memories(PAIR) for _ in PAIR]
    for each, host in zip(
        made, on_one_host(2, lambda calls: map_collectives(calls, PAIR, _core.Host, "c")), strict=True
    ):
        each.hosts.append(host)
    return made


def placing(values: Any, perform: Any = None, spins: bool = False) -> tuple[list[Memories], list[Any]]:
    made = pair()
    for each in made:
        each.spins = spins
    return made, both(lambda calls: place(calls, made[calls.rank], values, perform))


def holds(each: Memories, x: Any) -> bool:
    assert each.arena is not None
    return each.arena.holds(x)


def test_a_large_vector_is_placed_and_a_small_one_stays() -> None:
    made, placed = placing(LARGE)
    for each, x in zip(made, placed, strict=True):
        assert holds(each, x)
        assert x.tolist() == LARGE.reshape(-1).tolist()
    again = place(Calls(0, 2, {}), made[0], LARGE * 2, None)  # type: ignore[arg-type]
    assert holds(made[0], again)
    assert place(Calls(0, 2, {}), made[0], small := np.ones(5), None) is small  # type: ignore[arg-type]
    for each in made:
        each.close()
    assert not any(map(holds, made, placed))
    assert placed[1].tolist() == LARGE.reshape(-1).tolist(), "it is private memory now"


def test_ranks_with_vectors_of_other_sizes_place_none() -> None:
    Calls.differs = {"bytes of a vector": [LARGE.nbytes, 8]}
    made, placed = placing(LARGE)
    assert placed[0] is placed[1] is LARGE
    for each in made:
        each.close()


@pytest.mark.parametrize("spins", [True, False])
def test_forms_are_measured_once_for_a_very_large_vector_and_a_core_each(
    monkeypatch: pytest.MonkeyPatch, spins: bool
) -> None:
    found, asked = Forms(7, ((0, 4096),)), []

    def measured(perform: Any, use: Any, shared: Any, ranks: int) -> Any:
        asked.append((perform, ranks, shared(8192).size))
        return found, {}

    monkeypatch.setattr(module, "measured", measured)
    perform = object()
    made, _ = placing(HUGE, perform, spins)
    assert asked == [(perform, 2, 8192)] * spins, "the other one finds it in the same process"
    assert list(module.CHOSEN.values()) == [found] * spins
    asked.clear()
    again = pair()
    for each in again:
        each.spins = spins
    place(Calls(0, 2, {"second": True}), again[0], HUGE, perform)  # type: ignore[arg-type]
    assert asked == [], "another run of the same process"
    for each in (*made, *again):
        each.close()
