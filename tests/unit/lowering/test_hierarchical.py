"""Two-level collectives: a fold within each host, then one over the hosts; only leaders send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.messages import Mail, Player
from tests.unit.values import Values, beginnings, bits, drawn, reduced, workers

from loosestep.lowering import hierarchical
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import IntraHost, Script
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Exchange, Start, Wait

counts_of_hosts = st.lists(st.integers(1, 3), min_size=2, max_size=4).filter(lambda counts: max(counts) > 1)
NATIVE = frozenset({Exchange, Script})


def play(requests: Sequence[Any], counts: Sequence[int], seed: int = 0) -> list[Player]:
    """One collective of all workers, played by messages alone."""
    size = sum(counts)
    hosts = hierarchical.split(counts, size)
    lowerings = [Lowering(NATIVE, worker, hosts=hosts) for worker in workers(size)]
    return Mail([each.lower([request]) for each, request in zip(lowerings, requests, strict=True)], seed).play()


def two_level(op: Any, bufs: Sequence[Values], weights: Sequence[float], hosts: Sequence[Any]) -> Values | None:
    """As the documentation says it."""
    totals, sums = [], []
    for host in hosts:
        total = reduced(op, [bufs[rank] for rank in host], [weights[rank] for rank in host])
        totals.append(bufs[host[0]] * np.nan if total is None else total)
        sums.append(sum(weights[rank] for rank in host))
    return reduced(op, totals, sums)


@drawn
@given(counts_of_hosts, st.sampled_from(["sum", "mean", "max", "min"]), st.data(), st.integers(0, 2**32))
def test_a_reduction_folds_within_hosts_and_then_over_them(
    counts: list[int], op: Any, data: st.DataObject, seed: int
) -> None:
    n = sum(counts)
    weights = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n))
    bufs = beginnings(n, 5)
    before = bits(bufs)
    wanted = two_level(op, bufs, weights, hierarchical.split(counts, n))
    play([AllReduce(buf, op, weight) for buf, weight in zip(bufs, weights, strict=True)], counts, seed)
    assert bits(bufs) == (before if wanted is None else bits([wanted] * n))


def test_the_order_of_two_levels_has_bits_of_its_own() -> None:
    bufs = beginnings(4, 50)
    flat, hosts = reduced("sum", bufs), hierarchical.split([2, 2], 4)
    assert bits([two_level("sum", bufs, [1.0] * 4, hosts)]) != bits([flat])
    hierarchical.fold("sum", bufs, [1.0] * 4, hosts)
    assert bits(bufs[:1]) == bits([two_level("sum", beginnings(4, 50), [1.0] * 4, hosts)])


@drawn
@given(counts_of_hosts, st.data(), st.integers(0, 2**32))
def test_the_other_collectives_reach_every_host(counts: list[int], data: st.DataObject, seed: int) -> None:
    n = sum(counts)
    root = data.draw(st.integers(0, n - 1))
    pieces, outs = beginnings(n, 3), [np.full(3 * n, np.nan) for _ in range(n)]
    play([AllGather(piece, out) for piece, out in zip(pieces, outs, strict=True)], counts, seed)
    assert bits(outs) == bits([np.concatenate(pieces)] * n)
    bufs = beginnings(n)
    wanted = bufs[root].copy()
    play([Broadcast(buf, root) for buf in bufs], counts, seed)
    assert bits(bufs) == bits([wanted] * n)
    play([Barrier()] * n, counts, seed)


@drawn
@given(counts_of_hosts, st.data())
def test_what_leaders_send_to_other_hosts_is_what_it_costs(counts: list[int], data: st.DataObject) -> None:
    n = sum(counts)
    root = data.draw(st.integers(0, n - 1))
    made: list[Any] = [
        lambda rank: AllReduce(beginnings(n)[rank]),
        lambda rank: AllGather(beginnings(n)[rank], np.zeros(6 * n)),
        lambda rank: Broadcast(beginnings(n)[rank], root),
        lambda rank: Barrier(),
    ]
    for make in made:
        requests = [make(rank) for rank in range(n)]
        for rank, (nbytes, messages) in enumerate(between_hosts(requests, counts)):
            hosts_ = hierarchical.HostMap(workers(n)[rank], hierarchical.split(counts, n))
            assert hierarchical.cost(requests[rank], hosts_) == (nbytes, messages)


def between_hosts(requests: Sequence[Any], counts: Sequence[int]) -> list[tuple[int, int]]:
    """(bytes, messages) that each worker sends to others than its host's, the visits to memory left out."""
    hosts, all_ = hierarchical.split(counts, len(requests)), workers(len(requests))

    def asked(rank: int) -> Iterator[Any]:
        hosts_ = hierarchical.HostMap(all_[rank], hosts)
        for each in hierarchical.FORMS[type(requests[rank])](requests[rank], hosts_, hierarchical.Ticket(0, 1)):
            if not isinstance(each, IntraHost):
                if each.notes is not None:  # the weights of the others, as they would come
                    each.notes.update((source, 1.0) for source, _ in each.recvs)
                yield each

    sent = [[buf for exchange in asked(rank) for _, buf in exchange.sends] for rank in range(len(requests))]
    return [(sum(buf.nbytes for buf in each), len(each)) for each in sent]


def test_a_script_knows_what_it_sends_between_hosts() -> None:
    buf = np.zeros(8)
    lowerings = [Lowering(NATIVE, worker, hosts=((0, 1), (2, 3))) for worker in workers(4)]
    leader, other = (next(lowerings[rank].lower([AllReduce(buf)])) for rank in (0, 1))
    assert isinstance(leader, Script)
    assert isinstance(other, Script)
    assert leader.sent == (64, 2)
    assert other.sent == (0, 0)
    assert str(leader) == "AllReduce(8 float64, 'mean', 1.0)"


def test_visits_to_memory_are_numbered_in_the_order_of_the_collectives() -> None:
    lowering = Lowering(frozenset({Exchange, Script, IntraHost}), workers(4)[1], hosts=((0, 1), (2, 3)))
    first, second = AllReduce(np.zeros(2)), Broadcast(np.zeros(2))
    scripts = [
        each.request
        for each in lowering.lower([Start(first), Start(second), Wait(second), Wait(first)])
        if type(each) is Start
    ]
    visits = [[visit for visit in script.requests if isinstance(visit, IntraHost)] for script in scripts]  # type: ignore[attr-defined]
    assert [[(visit.phase, visit.number) for visit in each] for each in visits] == [
        [(0, 0), (1, 0)],
        [(0, 1), (1, 1)],
    ]
    assert len({visit.tag for each in visits for visit in each}) == 2


@pytest.mark.parametrize(
    ("hosts", "error", "sentence"),
    [
        ([2, 0], ValueError, "every number in hosts must be at least 1, got 0"),
        ("22", TypeError, r"hosts must be the number of workers on each host, as \[2, 2\], got '22'"),
        ([], TypeError, "hosts must be the number of workers on each host"),
        (4, TypeError, "hosts must be the number of workers on each host"),
    ],
)
def test_hosts_are_numbers_of_workers(hosts: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        hierarchical.checked(hosts)


def test_hosts_hold_all_workers() -> None:
    assert hierarchical.split([2, 1, 3], 6) == ((0, 1), (2,), (3, 4, 5))
    with pytest.raises(ValueError, match=r"^hosts=\(2, 2\) have 4 workers, but there are 5$"):
        hierarchical.split([2, 2], 5)
