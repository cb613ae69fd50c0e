"""Collectives against numpy, on every transport, in their native and in their lowered form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from tests.contract.scripted import Ask, ask, beginning
from tests.contract.transports.transports import beginnings, check, each, fold

import loosestep as ls
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Mix,
    Request,
    Start,
    Wait,
    Weights,
)
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport

FOLDS = {
    "mean": lambda parts: fold(np.add, parts) / parts[0].dtype.type(len(parts)),
    "sum": lambda parts: fold(np.add, parts),
    "max": lambda parts: fold(np.maximum, parts),
    "min": lambda parts: fold(np.minimum, parts),
}


@each(1, 2, 3, 4, 7)
@pytest.mark.parametrize("op", FOLDS)
def test_all_reduce(on: Transport, op: Any) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params, op=op)

    for dtype, size in product((np.float32, np.float64), (1, 5, 4099)):
        check(ask(script, on, size, dtype), [FOLDS[op](beginnings(on.size, size, dtype))] * on.size)


WEIGHTS = [[2, 2, 2, 2, 2], [1, 3, 0, 2, 5], [0, 4, 0, 0, 0], [0.5, 0.25, 3, 1, 1]]


@each(2, 3, 5)
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_a_weighted_mean_does_not_read_those_without_weight(on: Transport, weights: list[float]) -> None:
    used = weights[: on.size]

    def script(worker: Worker) -> Iterator[Request]:
        if used[worker.rank] == 0:
            worker.params.fill(np.nan)
        yield AllReduce(worker.params, op="mean", weight=used[worker.rank])

    kept = [(w, x) for w, x in zip(used, beginnings(on.size), strict=True) if w]
    plain = len(set(used)) == 1
    total = fold(np.add, [x if plain else w * x for w, x in kept])
    check(ask(script, on), [total / (len(kept) if plain else float(sum(w for w, _ in kept)))] * on.size)


@each(1, 2, 3, 5)
def test_a_mean_of_no_weight_at_all_changes_nothing(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params, op="mean", weight=0)

    check(ask(script, on), beginnings(on.size))


@each(1, 2, 3, 5)
@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_a_nan_shows(on: Transport, op: Any) -> None:
    got: dict[int, Any] = {}

    def script(worker: Worker) -> Iterator[Request]:
        got[worker.rank] = worker.params.copy()
        if worker.rank == on.size - 1:
            got[worker.rank][0] = np.nan
        yield AllReduce(got[worker.rank], op=op)

    ask(script, on)
    assert np.isnan([got[rank][0] for rank in range(on.size)]).all()


@each(1, 2, 3, 5)
@pytest.mark.parametrize("size", [0, 1, 6])
def test_all_gather(on: Transport, size: int) -> None:
    got: dict[int, Any] = {}

    def script(worker: Worker) -> Iterator[Request]:
        out = np.empty(worker.size * size)
        yield AllGather(worker.params[:size].copy(), out)
        got[worker.rank] = out

    ask(script, on)
    gathered = np.concatenate([x[:size] for x in beginnings(on.size)])
    check([got[rank] for rank in range(on.size)], [gathered] * on.size)


@each(1, 2, 3, 5)
@pytest.mark.parametrize("place", [0, 1, -1])
def test_broadcast_from_every_root(on: Transport, place: int) -> None:
    root = place % on.size

    def script(worker: Worker) -> Iterator[Request]:
        yield Broadcast(worker.params, root)

    check(ask(script, on), [beginning(root)] * on.size)


@each(1, 2, 3, 5)
def test_nobody_passes_a_barrier_before_all_have_come(on: Transport) -> None:
    came: list[int] = []
    seen: list[int] = []

    def script(worker: Worker) -> Iterator[Request]:
        came.append(worker.rank)
        yield Barrier()
        seen.append(len(came))

    ask(script, on)
    assert seen == [on.size] * on.size


@each(1, 2, 3, 5)
def test_mix_is_a_row_of_the_mixing_matrix(on: Transport) -> None:
    ring = ls.Ring()

    def script(worker: Worker) -> Iterator[Request]:
        yield Mix(worker.params, ring.weights(worker.rank, worker.size))

    xs = beginnings(on.size)
    rows = [ring.weights(rank, on.size).row for rank in range(on.size)]
    check(ask(script, on), [fold(np.add, [w * xs[other] for other, w in row]) for row in rows])


@each(3, 5)
def test_mix_in_a_directed_graph(on: Transport) -> None:
    """Everyone reads the next worker, and worker 0 itself alone."""
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        me = worker.rank
        row = ((0, 1.0),) if me == 0 else tuple(sorted([(me, 0.25), ((me + 1) % n, 0.75)]))
        readers = tuple(rank for rank in ((me - 1) % n,) if rank != 0)
        yield Mix(worker.params, Weights(row, readers))

    xs = beginnings(n)
    wanted = [xs[0]]
    for me in range(1, n):
        row = sorted([(me, 0.25), ((me + 1) % n, 0.75)])
        wanted.append(fold(np.add, [w * xs[other] for other, w in row]))
    check(ask(script, on), wanted)


@each(4, 7)
def test_groups_do_not_mix(on: Transport) -> None:
    even, odd = tuple(range(0, on.size, 2)), tuple(range(on.size - 1 - on.size % 2, 0, -2))

    def script(worker: Worker) -> Iterator[Request]:
        mine = even if worker.rank % 2 == 0 else odd
        for _ in range(worker.rank % 2):  # the groups ask differently often
            yield Barrier(group=mine)
        yield AllReduce(worker.params, op="sum", group=mine)
        out = np.empty(len(mine) * 2)
        yield AllGather(worker.params[:2].copy(), out, group=mine)
        worker.params[2:4] = out[-2:]
        yield Broadcast(worker.params, root=mine[-1], group=mine)
        yield AllReduce(worker.params[:1], op="max")

    xs = beginnings(on.size)
    sums = {group: fold(np.add, [xs[rank] for rank in group]) for group in (even, odd)}
    top = max(total[0] for total in sums.values())
    wanted = []
    for rank in range(on.size):
        total = sums[odd if rank % 2 else even].copy()
        total[2:4] = total[:2]
        total[0] = top
        wanted.append(total)
    check(ask(script, on), wanted)


@each(4)
def test_a_group_folds_in_its_own_order_and_weighs(on: Transport) -> None:
    group = (3, 1, 2)

    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank in group:
            yield AllReduce(worker.params, op="mean", weight=worker.rank, group=group)

    xs = beginnings(4)
    mean = ((3.0 * xs[3] + 1.0 * xs[1]) + 2.0 * xs[2]) / 6.0
    check(ask(script, on), [xs[0], mean, mean, mean])


# --- on several hosts --------------------------------------------------------------------------------------

SPLITS = [[2, 2], [3, 1], [1, 1, 2], [1, 3, 2, 1], [1, 1, 1], [4]]


def by_hosts(hosts: list[int], parts: list[Any]) -> list[list[Any]]:
    edges = [sum(hosts[:place]) for place in range(len(hosts) + 1)]
    return [parts[low:high] for low, high in pairwise(edges)]


@pytest.mark.parametrize("hosts", SPLITS, ids=str)
@pytest.mark.parametrize("op", FOLDS)
def test_hosts_fold_first_each_then_together(hosts: list[int], op: Any) -> None:
    """A mean of hosts weighs each by its workers, and not where all have as many."""

    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params, op=op)

    n = sum(hosts)
    each_host = [FOLDS[op](parts) for parts in by_hosts(hosts, beginnings(n, 4099))]
    whole = FOLDS[op](each_host)
    if op == "mean" and len(set(hosts)) > 1:
        whole = fold(np.add, [float(count) * x for count, x in zip(hosts, each_host, strict=True)]) / float(n)
    check(ask(script, ls.Simulated(n, hosts=hosts), 4099), [whole] * n)


@pytest.mark.parametrize("hosts", SPLITS, ids=str)
@pytest.mark.parametrize("weights", [[1, 3, 0, 2, 5, 1, 1], [0, 0, 2, 0, 0, 0, 0], [0] * 7], ids=str)
def test_hosts_weigh_what_their_workers_do(hosts: list[int], weights: list[int]) -> None:
    n = sum(hosts)
    used = weights[:n]

    def script(worker: Worker) -> Iterator[Request]:
        if any(used) and not used[worker.rank]:
            worker.params.fill(np.nan)
        yield AllReduce(worker.params, weight=used[worker.rank])

    got, xs = ask(script, ls.Simulated(n, hosts=hosts)), beginnings(n)
    if not any(used):
        check(got, xs)
        return
    mean = sum(w * x for w, x in zip(used, xs, strict=True)) / sum(used)
    assert np.allclose(got, [mean] * n, rtol=1e-14)
    check(got, [got[0]] * n)


@pytest.mark.parametrize("hosts", SPLITS, ids=str)
def test_what_moves_only_is_the_same_on_any_hosts(hosts: list[int]) -> None:
    n = sum(hosts)

    def script(worker: Worker) -> Iterator[Request]:
        out = np.empty(n * 3)
        asked = [Broadcast(worker.params[3:], root=n - 1), AllGather(worker.params[:3].copy(), out), Barrier()]
        for request in asked:
            yield Start(request)
        for request in reversed(asked):
            yield Wait(request)
        worker.params[:3] = out[n : n + 3]
        yield Broadcast(worker.params[4:], root=n // 2)

    check(ask(script, ls.Simulated(n, hosts=hosts)), ask(script, ls.Simulated(n)))


def test_leaders_send_between_hosts_and_nobody_else_is_counted() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params)
        yield Broadcast(worker.params, root=1)
        yield AllGather(worker.params[:10].copy(), np.empty(40))
        yield Barrier()

    on = ls.Metered(ls.Simulated(4, hosts=[1, 3]))
    ask(script, on, 1000)
    assert [(meter.bytes, meter.messages) for meter in on.meters] == [
        (8 * 1000 + 8 * 10, 1 + 0 + 1 + 1),
        (8 * 1000 + 8 * 1000 + 8 * 30, 1 + 1 + 1 + 1),
        (0, 0),
        (0, 0),
    ]


def test_hosts_are_priced_by_the_links_between_them() -> None:
    """Two leaders exchange 1 MB, after and before their hosts' memory; four workers quarters of it, twice."""

    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params)

    def seconds(**options: Any) -> float:
        zero = lambda x, batch: np.zeros_like(x)  # noqa: E731
        on = ls.Simulated(4, step_time=1e-9, latency=0.01, bandwidth=1e6, **options)
        data = lambda rank, n: iter([0.0])  # noqa: E731
        return ls.run(Ask(script), zero, np.zeros(125_000), data, on=on).seconds

    assert 1.01 < seconds(hosts=[2, 2]) < 1.02
    assert seconds() == pytest.approx(2 * (0.01 + 3 * 0.25), rel=1e-6)
    assert seconds(hosts=[2, 2], host_latency=0.01, host_bandwidth=1e6) > 3.0


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"hosts": [2, 3]}, ValueError, r"hosts=\(2, 3\) have 5 workers, but there are 4"),
        ({"hosts": [4, 0]}, ValueError, "every number in hosts must be at least 1, got 0"),
        ({"hosts": []}, TypeError, r"hosts must be the number of workers on each host, as \[2, 2\], got \[\]"),
        ({"hosts": 2}, TypeError, r"hosts must be the number of workers on each host, as \[2, 2\], got 2"),
        ({"host_latency": 1.0}, ValueError, "host_latency needs hosts, and one number for latency between them"),
        ({"hosts": [2, 2], "host_bandwidth": 0}, ValueError, "host_bandwidth must be above 0 and finite, got 0"),
    ],
)
def test_hosts_are_checked(options: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{sentence}$"):
        ls.Simulated(4, **options)
