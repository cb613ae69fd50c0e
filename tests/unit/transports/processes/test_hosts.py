"""Which processes share a host, by the marks that they give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from loosestep.transports.processes import hosts


def test_marks_are_of_one_length_and_the_same_at_every_call() -> None:
    assert [len(mark) for mark in hosts.marks()] == [16, 16]
    assert hosts.marks() == hosts.marks()
    assert hosts.digest("a") != hosts.digest("b")


def test_without_proc_each_process_is_a_host_of_its_own_on_one_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hosts, "PROC", tmp_path)
    found = []
    for pid in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        found.append(hosts.marks())
    assert hosts.grouped(found) == (((0,), (1,)), True)


def test_hosts_are_those_of_one_mark_in_the_order_of_their_first_ranks() -> None:
    a, b, net, far = b"a", b"b", b"net", b"far"
    assert hosts.grouped([(b, net), (a, net), (b, net)]) == (((0, 2), (1,)), True)
    assert hosts.grouped([(a, net), (a, net)]) == (((0, 1),), True)
    assert hosts.grouped([(a, net), (b, far)]) == (((0,), (1,)), False)


@pytest.mark.parametrize(
    ("found", "cores"),
    [
        ([[[0], 1], [[1], 1], [[0, 1, 2], 3]], 2),  # each of the first two is bound to one
        ([[[0, 1], 2], [[0, 1], 2], [[5], 1]], 2),
        ([[[0, 1, 2, 3], 1], [[0, 1, 2, 3], 1], [[0], 1]], 1),  # a container's quota of processor time
    ],
)
def test_the_cores_of_a_group_are_those_of_any_rank_within_a_quota(found: Any, cores: int) -> None:
    class Calls:
        def all_gather_object(self, name: str, mine: Any) -> Any:
            assert mine()[0] == sorted(os.sched_getaffinity(0))
            return lambda: found

    assert hosts.cores_for(Calls(), (0, 1)) == cores  # type: ignore[arg-type]
