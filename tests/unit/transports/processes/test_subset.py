"""A wire between some processes of another one: ranks are translated, and nothing reaches the others."""

from __future__ import annotations

import numpy as np
from tests.unit.wire import Net

from loosestep.transports.processes.subset import SubsetWire, hosts_of
from loosestep.transports.processes.wire import Header


def test_members_send_to_each_other_by_their_own_numbers() -> None:
    net = Net(4)
    first, other = (SubsetWire(net.ends[rank], (1, 3)) for rank in (1, 3))
    assert [(wire.rank, wire.size) for wire in (first, other)] == [(0, 2), (1, 2)]
    short, long = np.arange(2.0), np.arange(100.0)
    for payload in (short, long):
        first.send(1, Header(1, payload.dtype.num, payload.size), payload, None)
    assert not net.lines[1, 0]
    assert not net.lines[1, 2]
    found, into = [], np.zeros(100)
    while len(found) < 2:
        for source, header, content in other.poll():
            found.append((source, header.size))
            if content is None:
                other.receive(source, into, lambda: None)
    list(other.poll())
    assert found == [(0, 2), (0, 100)]
    assert into.tolist() == long.tolist()
    assert other.last_heard(0) == net.ends[3].last_heard(1)
    other.pause()
    assert net.ends[3].pauses == 1


def test_hosts_are_told_by_the_numbers_of_members() -> None:
    assert hosts_of(((0, 1), (2, 3)), (1, 3)) == ((0,), (1,))
    assert hosts_of(((0, 1, 2, 3),), (0, 2)) == ((0, 1),)
    assert hosts_of(((0, 1), (2, 3)), (2, 3)) == ((0, 1),)
