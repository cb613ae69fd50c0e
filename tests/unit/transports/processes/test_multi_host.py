"""Collectives where there are several hosts: by messages alone, or by phases in the memory of each host."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.unit.hosts import HostCalls
from tests.unit.values import bits, worker

from loosestep.lowering.hierarchical import PHASES
from loosestep.lowering.requests import IntraHost
from loosestep.requests import AllReduce, Barrier
from loosestep.transports.processes.multi_host import Hierarchical, Messages


def test_by_messages_nothing_is_performed_here() -> None:
    one = Messages()
    one.open(HostCalls(0, 1, {}))  # type: ignore[arg-type]
    assert (dict(one.handlers), dict(one.background), dict(one.operations), list(one.slots)) == ({}, {}, {}, [])
    assert (one.hosted, one.grouped) == (False, True)
    assert one.memories.everything == []


def hierarchical() -> Any:
    one = Hierarchical((0,))
    one.open(HostCalls(0, 1, {}))  # type: ignore[arg-type]
    return one


def test_each_phase_has_a_slot_of_its_own() -> None:
    one = hierarchical()
    assert len(one.slots) == len(one.memories.hosts) == PHASES
    buf = np.array([3.0])
    before = bits([buf])
    entered = [
        one.operations[IntraHost](IntraHost(phase, 0, 1, iter([AllReduce(buf, "sum"), Barrier()])), worker(0, 1))
        for phase in range(PHASES)
    ]
    assert [one.slots[phase].advance() for phase in range(PHASES)] == [True] * PHASES
    assert [operation.left for operation in entered] == [0] * PHASES
    assert bits([buf]) == before
    one.memories.close()


def test_phases_alone_are_performed_here() -> None:
    one = hierarchical()
    assert set(one.handlers) == set(one.operations) == {IntraHost}
    assert dict(one.background) == {}
    performed: list[Any] = []
    one.calls.perform = performed.append
    one.handlers[IntraHost](asked := IntraHost(0, 0, 1, iter([])))
    assert performed == [asked]
    one.memories.close()
