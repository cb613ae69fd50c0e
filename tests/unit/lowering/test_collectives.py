"""Collectives as messages: the bits of a fold in rank order, whatever comes first, at their price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.looped import looped
from tests.unit.messages import Mail, Player
from tests.unit.values import beginnings, bits, drawn, reduced, workers

from loosestep.lowering import collectives, forms
from loosestep.lowering.costs import cost_of
from loosestep.lowering.forms import Form
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Mix,
    Weights,
)
from loosestep.requests.links import Links

SIZES = range(1, 8)
OPS = ("sum", "mean", "max", "min")
seeds = st.integers(0, 2**32)


FAR, NARROW = Links(1.0, inf), Links(0.0, 1.0)
FORMS = {Form.WHOLE: FAR, Form.DIRECT: None, Form.PAIRWISE: NARROW}
"""Links on which a collective takes each form, where few workers count as many."""


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three workers are a crowd; what was chosen before and meanwhile is forgotten."""
    choices = forms.of_all_reduce, forms.of_all_gather
    monkeypatch.setattr(forms, "CROWD", 3)
    for choice in choices:
        choice.cache_clear()
    yield
    for choice in choices:
        choice.cache_clear()


@pytest.fixture(params=FORMS, ids=lambda form: form.name.lower())
def links(request: pytest.FixtureRequest, few_are_many: None) -> Links | None:
    return FORMS[request.param]


def play(requests: Sequence[Any], size: int, seed: int = 0, links: Links | None = None) -> list[Player]:
    """One collective of all, or of the ranks that have a request; what each sent is what it was said to cost."""
    all_ = workers(size)
    for each in all_:
        each.links = links
    scripts = [
        iter(()) if request is None else collectives.FORMS[type(request)](request, worker, 7)
        for request, worker in zip(requests, all_, strict=True)
    ]
    players = Mail(scripts, seed).play()
    for player, request in zip(players, requests, strict=True):
        cost = (0, 0) if request is None else cost_of(request, player.rank, size, links)
        assert (player.bytes, player.messages) == cost
    return players


@pytest.mark.parametrize("op", OPS)
@looped("n", SIZES)
@looped("length", [0, 1, 6, 13])
@looped("dtype", [np.float32, np.float64])
def test_a_reduction_is_a_left_fold_in_rank_order(
    op: Any, n: int, length: int, dtype: Any, links: Links | None
) -> None:
    bufs = beginnings(n, length, dtype)
    wanted = reduced(op, bufs)
    players = play([AllReduce(buf, op) for buf in bufs], n, seed=n, links=links)
    assert bits(bufs) == bits([wanted] * n)
    assert all(player.returned for player in players)


@drawn
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.5, 64.0]), min_size=1, max_size=7),
    st.integers(0, 20),
    seeds,
    st.sampled_from([FAR, None]),
)
def test_a_mean_is_weighted_and_leaves_out_who_has_no_weight(
    weights: list[float], length: int, seed: int, links: Links | None
) -> None:
    n = len(weights)
    bufs = beginnings(n, length)
    for buf, weight in zip(bufs, weights, strict=True):
        if not weight and any(weights):
            buf[:] = np.nan  # what has no weight is not read
    wanted = reduced("mean", bufs, weights)
    before = bits(bufs)
    asked = [AllReduce(buf, "mean", weight) for buf, weight in zip(bufs, weights, strict=True)]
    players = play(asked, n, seed, links)
    assert bits(bufs) == (before if wanted is None else bits([wanted] * n))
    assert {player.returned for player in players} == {any(weights)}


@drawn
@given(st.permutations(range(7)), st.integers(1, 7), st.sampled_from(OPS), seeds, st.sampled_from([FAR, None]))
def test_a_group_folds_in_its_own_order(order: list[int], n: int, op: Any, seed: int, links: Links | None) -> None:
    group = tuple(order[:n])
    bufs = beginnings(7)
    before = bits(bufs)
    wanted = reduced(op, [bufs[rank] for rank in group])
    asked = [AllReduce(bufs[rank], op, group=group) if rank in group else None for rank in range(7)]
    play(asked, 7, seed, links)
    assert bits(bufs) == [wanted.tobytes() if rank in group else before[rank] for rank in range(7)]  # type: ignore[union-attr]


@pytest.mark.parametrize("n", SIZES)
def test_a_gathering_puts_pieces_in_rank_order(n: int, links: Links | None) -> None:
    pieces, outs = beginnings(n, 3), [np.full(3 * n, np.nan) for _ in range(n)]
    play([AllGather(piece, out) for piece, out in zip(pieces, outs, strict=True)], n, links=links)
    assert bits(outs) == bits([np.concatenate(pieces)] * n)


@pytest.mark.parametrize(("n", "root"), [(n, root) for n in SIZES for root in range(n)])
def test_a_broadcast_reaches_all_from_any_root(n: int, root: int) -> None:
    bufs = beginnings(n)
    wanted = bufs[root].copy()
    players = play([Broadcast(buf, root) for buf in bufs], n, seed=root)
    assert bits(bufs) == bits([wanted] * n)
    assert sum(player.messages for player in players) == n - 1


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("group", [None, (5, 0, 3)])
def test_a_barrier_ends_for_nobody_before_all_have_come(n: int, group: tuple[int, ...] | None) -> None:
    members = range(n) if group is None else group
    late = members[-1]
    scripts = [
        iter(()) if rank not in members or rank == late else collectives.barrier(Barrier(group), each, 1)
        for rank, each in enumerate(workers(max(n, 6)))
    ]
    mail = Mail(scripts)
    for _ in range(20):
        for player in mail.players:
            mail.advance(player)
    assert not any(mail.players[rank].over for rank in members if rank != late)


@drawn
@given(st.integers(2, 7), st.data(), seeds)
def test_mixing_is_one_row_of_the_matrix(n: int, data: st.DataObject, seed: int) -> None:
    edges = data.draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    rows = [{rank: 1 / 3, **{j: 0.1 * (j + 1) for i, j in edges if i == rank and j != rank}} for rank in range(n)]
    bufs = beginnings(n)
    asked = []
    for rank, buf in enumerate(bufs):
        readers = tuple(other for other in range(n) if other != rank and rank in rows[other])
        asked.append(Mix(buf, Weights(tuple(sorted(rows[rank].items())), readers)))
    wanted = []
    for row in rows:
        (first, weight), *others = sorted(row.items())
        total = weight * bufs[first]
        for source, weight in others:
            total = total + weight * bufs[source]
        wanted.append(total)
    all_ = workers(n)
    pairs = [collectives.mix_exchange(request, worker, 3) for request, worker in zip(asked, all_, strict=True)]
    players = Mail([iter((exchange,)) for exchange, _ in pairs], seed).play()
    for request, worker, (_, parts) in zip(asked, all_, pairs, strict=True):
        collectives.mix_finish(request, worker, parts)
    assert bits(bufs) == bits(wanted)
    for player, request in zip(players, asked, strict=True):
        assert (player.bytes, player.messages) == cost_of(request, player.rank, n)


@pytest.mark.parametrize(("form", "exchanges"), [(Form.WHOLE, 1), (Form.DIRECT, 2), (Form.PAIRWISE, 6)])
def test_a_form_makes_its_exchanges_and_receives_into_room_that_is_kept(
    form: Form, exchanges: int, few_are_many: None
) -> None:
    one, buf = workers(4)[1], np.ones(8)
    one.links = FORMS[form]
    for _ in range(2):
        made = []
        for each in collectives.all_reduce(AllReduce(buf), one, 0):
            made.append(each)
            if each.notes is not None:
                each.notes.update((source, 1.0) for source, _ in each.recvs)
        assert len(made) == exchanges
    ((rows,),) = one.free.values()
    assert sum(row.nbytes for row in rows) == 3 * (buf.nbytes if form is Form.WHOLE else buf.nbytes // 4)


@drawn
@given(st.integers(0, 1000), st.integers(1, 40))
def test_chunks_are_nearly_equal_and_leave_nothing_out(size: int, parts: int) -> None:
    edges = collectives.bounds(size, parts)
    assert (edges[0], edges[-1], len(edges)) == (0, size, parts + 1)
    lengths = [high - low for low, high in pairwise(edges)]
    assert min(lengths) >= size // parts
    assert max(lengths) <= -(-size // parts)
