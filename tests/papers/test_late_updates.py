"""FedBuff, Ringmaster, Ringleader, HeLoCo and HALoS against a server in plain numpy that workers come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.papers.arrivals import serve, slow_last
from tests.papers.problems import EQUAL, RATE, Array, all_at_once, difference, in_turn, quadratics, sgd, trace

import loosestep as ls
from loosestep import ops

PROBLEM, STEPS = quadratics(), 48
EVEN, UNEVEN = (1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 3.5)
every_pace = pytest.mark.parametrize("factors", [EVEN, UNEVEN], ids=["even", "uneven"])
Come = Callable[[int, Array], Array]


def check(strategy: ls.Strategy, factors: tuple[float, ...], center: Array) -> None:
    found = trace(strategy, PROBLEM, STEPS, on=slow_last(4, factors[-1]))
    assert difference(found.center, center) < EQUAL


# --- FedBuff -------------------------------------------------------------------------------------------------


@every_pace
@pytest.mark.parametrize(("size", "discount"), [(1, 0.5), (3, 0.5), (4, 0.0), (6, 1.0)])
def test_fed_buff_is_its_server(factors: tuple[float, ...], size: int, discount: float) -> None:
    c, total, pushes, steps, had = PROBLEM.start, np.zeros(5), 0, 0, [0] * 4

    def come(rank: int, change: Array) -> Array:
        nonlocal c, total, pushes, steps
        total = total + change / (1 + steps - had[rank]) ** discount
        pushes += 1
        if pushes % size == 0:
            c, total, steps = c - 0.8 * total / size, np.zeros(5), steps + 1
        had[rank] = steps
        return c

    serve(PROBLEM, STEPS, 4, factors, come)
    check(ls.FedBuff(4, size, 0.8, discount), factors, c)


def test_a_buffer_of_all_without_discount_is_federated_averaging() -> None:
    on = all_at_once(4, 5)
    buffered, averaged = (
        trace(strategy, PROBLEM, STEPS, on=on) for strategy in (ls.FedBuff(4, discount=0.0), ls.FedAvg(4))
    )
    assert difference(buffered.center, averaged.center) < EQUAL
    assert difference(np.array(buffered.points), np.array(averaged.points)) < EQUAL


def test_lateness_is_counted_in_steps_of_the_center_and_not_in_pushes() -> None:
    for seen, step, late in ((0, 3, 0), (2, 3, 0), (2, 4, 1), (3, 6, 0), (0, 9, 2), (8, 8, 0)):
        c, total = np.zeros(1), np.zeros(1)
        ops.buffered(c, total, np.ones(1), 1.0, 3, float(seen), 1.0, step)
        assert (c - total / 3 if step % 3 else c)[0] == pytest.approx(-1 / (1 + late) / 3)


# --- Ringmaster ----------------------------------------------------------------------------------------------


@every_pace
@pytest.mark.parametrize("bound", [1, 2, 4, 9])
def test_ringmaster_applies_what_is_less_than_so_many_steps_late(factors: tuple[float, ...], bound: int) -> None:
    c, applied, had, lost = PROBLEM.start, 0, [0] * 4, 0

    def come(rank: int, change: Array) -> Array:
        nonlocal c, applied, lost
        if applied - had[rank] < bound:
            c, applied = c - change, applied + 1
        else:
            lost += 1
        had[rank] = applied
        return c

    serve(PROBLEM, STEPS, 1, factors, come)
    strategy = ls.Ringmaster(bound)
    found = trace(strategy, PROBLEM, STEPS, on=slow_last(4, factors[-1]))
    assert difference(found.center, c) < EQUAL
    assert lost + applied == 4 * STEPS
    assert bool(lost) == (bound < 4 or factors is UNEVEN)
    sent = sum(worker.bytes_sent for worker in found.result.workers)
    assert sent == applied * (5 * 8 + 8), "what is too late is not sent"


# --- Ringleader ----------------------------------------------------------------------------------------------


def ringleader(delays: list[int]) -> Come:
    """The algorithm of the paper: first everybody has an entry, then everybody makes one move."""
    c, moves, had = PROBLEM.start, 0, [0] * 4
    tables: list[list[list[Array]]] = [[[] for _ in range(4)] for _ in range(2)]  # of this cycle, and of the next
    born: list[list[list[int]]] = [[[] for _ in range(4)] for _ in range(2)]
    done: set[int] = set()

    def come(rank: int, change: Array) -> Array:
        nonlocal c, moves
        later = rank in done
        tables[later][rank].append(change)
        born[later][rank].append(had[rank])
        if not later and all(tables[0]):
            c = c - 0.5 * np.mean([np.mean(entries, axis=0) for entries in tables[0]], axis=0)
            delays.append(moves - min(min(entries) for entries in born[0]))
            moves += 1
            done.add(rank)
        if len(done) == 4:
            tables[:], born[:] = [tables[1], [[] for _ in range(4)]], [born[1], [[] for _ in range(4)]]
            done.clear()
        had[rank] = moves
        return c

    return come


@every_pace
@pytest.mark.parametrize("period", [1, 3])
def test_ringleader_is_the_server_of_the_paper(factors: tuple[float, ...], period: int) -> None:
    delays: list[int] = []
    begun = serve(PROBLEM, STEPS, period, factors, ringleader(delays))
    found = trace(ls.Ringleader(0.5, period), PROBLEM, STEPS, on=slow_last(4, factors[-1]))
    for rank in range(3):  # before the data of anybody ends
        assert difference(found.points[rank][::period], begun[rank]) < EQUAL
    assert max(delays) <= 2 * 4 - 2


def test_a_slow_worker_counts_as_much_in_ringleader_and_less_in_downpour() -> None:
    """Three workers whose minimum is 0, and one, four times as slow, whose is 1: the mean of minima is 1/4."""
    ends = []
    for strategy in (ls.Ringleader(), ls.Downpour(1)):
        batches = lambda rank, size: iter([float(rank == 3)] * [1200, 300][rank == 3])  # noqa: E731
        result = ls.run(
            strategy, lambda x, b: x - b, np.zeros(1), batches, optimizer=ls.SGD(0.02), on=slow_last(4, 4.0)
        )
        ends.append(float(result.params[0]))
    assert ends == [pytest.approx(1 / 4, abs=0.02), pytest.approx(1 / 13, abs=0.02)]


def test_whose_data_has_ended_is_waited_for_no_more() -> None:
    batches = lambda rank, size: iter([1.0 + rank] * [400, 8][rank])  # noqa: E731
    result = ls.run(ls.Ringleader(), lambda x, b: x - b, np.zeros(2), batches, on=slow_last(2, 1.5))
    assert np.abs(result.params - 1.0).max() < 1e-3


def test_who_runs_first_and_ends_before_the_table_is_full_moves_nothing() -> None:
    """As one of two threads may that starts late: then the other's steps are those of SGD alone."""
    batches = lambda rank, size: iter([rank] * [8, 5][rank])  # noqa: E731
    problem = quadratics(2)
    result = ls.run(
        ls.Ringleader(), problem.gradient, problem.start, batches, optimizer=ls.SGD(RATE), on=slow_last(2, 9.0)
    )
    assert difference(result.params, sgd(problem, 1, 5)[-1]) < EQUAL
    assert difference(result.workers[0].params, problem.start) == 0.0, "it went back to the center each time"


def test_who_has_data_again_comes_back_to_the_cycle_of_the_others(tmp_path: Path) -> None:
    seen: list[Array] = []

    def go(steps: int, **counts: int) -> None:
        batches = lambda rank, size: iter([1.0 + rank] * counts[f"of_{rank}"])  # noqa: E731
        options = {"evaluate": lambda x: seen.append(x.copy()) or 0.0, "every": 50, "checkpoint": tmp_path}
        ls.run(
            ls.Ringleader(),
            lambda x, b: x - b,
            np.zeros(2),
            batches,
            steps=steps,
            resume=True,
            on=in_turn(2),
            **options,
        )

    go(50, of_0=400, of_1=8)
    assert np.abs(seen[-1] - 1.0).max() < 0.02, "alone"
    go(400, of_0=400, of_1=400)
    assert np.abs(seen[-2] - 1.5).max() < 0.02, "before the data of the first ends"


# --- HeLoCo --------------------------------------------------------------------------------------------------


def corrected(d: Array, m: Array, keep: float, turn: float, shrink: float, most: float, weight: float) -> Array:
    length, pace = np.linalg.norm(d), np.linalg.norm(m)
    if not length or not pace:
        return d
    u, v = d / length, m / pace
    cosine, trust = u @ v, length / (length + weight * pace)
    if cosine >= keep:
        return d
    if cosine < 0:
        return d - min(shrink * -cosine * trust, most) * cosine * length * v
    turned = min(turn * (1 - cosine) * trust, 1)
    way = (1 - turned) * u + turned * v
    return np.asarray(length * way / np.linalg.norm(way))


@every_pace
@pytest.mark.parametrize(
    "constants", [(0.5, 0.5, 1.0, 1.0, 1.0), (0.99, 3.0, 5.0, 0.3, 0.1)], ids=["gentle", "strong"]
)
def test_heloco_is_its_server(factors: tuple[float, ...], constants: tuple[float, ...]) -> None:
    c, m, kinds = PROBLEM.start, np.zeros(5), set()

    def come(rank: int, change: Array) -> Array:
        nonlocal c, m
        kinds.add(int(np.sign(np.round(change @ m, 12))) if m.any() else None)
        change = corrected(change, m, *constants)
        m = 0.6 * m + change
        c = c - 0.3 * (change + 0.6 * m)
        return c

    serve(PROBLEM, STEPS, 4, factors, come)
    assert kinds >= {1, -1}, "steps along the momentum and against it"
    check(ls.HeLoCo(4, 0.3, 0.6, *constants), factors, c)


def test_heloco_corrects_tensor_by_tensor() -> None:
    strategy = ls.HeLoCo(4, 0.3, 0.6)
    options = {"optimizer": ls.SGD(0.3), "steps": 24, "on": slow_last(4, 1.0)}
    ends = []
    for shapes in (((5,),), ((2,), (3,))):
        batches = lambda rank, size: iter([rank] * 24)  # noqa: E731
        result = ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, shapes=shapes, **options)
        ends.append(result.params)
    assert difference(ends[0], ends[1]) > 1e-3


# --- HALoS ---------------------------------------------------------------------------------------------------


@every_pace
def test_halos_is_a_server_of_servers(factors: tuple[float, ...]) -> None:
    """Two clusters; every third push to a cluster's center it meets that of all, which counts as a push of 0."""
    start = PROBLEM.start
    local, m, total, anchor = ([start.copy() if k in (0, 3) else np.zeros(5) for _ in range(2)] for k in range(4))
    pushes, moves, meetings, c, outer, outer_total = [0, 0], [0, 0], [0, 0], start, np.zeros(5), np.zeros(5)
    sends = 0

    def nesterov(
        state: tuple[Array, Array, Array], d: Array, r: float, mu: float, n: int, k: int
    ) -> tuple[Array, ...]:
        x, u, seen = state
        seen = seen + d
        if k % n:
            return x - r * d / n, u, seen
        u = mu * u + seen / n
        return x - r * (d / n + mu * u), u, np.zeros(5)

    def come(rank: int, change: Array) -> Array:
        nonlocal c, outer, outer_total, sends
        k = rank // 2
        pushes[k], moves[k] = pushes[k] + 1, moves[k] + 1
        local[k], m[k], total[k] = nesterov((local[k], m[k], total[k]), change, 0.9, 0.4, 2, moves[k])
        if pushes[k] >= 3 * (meetings[k] + 1):
            meetings[k], moves[k], sends = meetings[k] + 1, moves[k] + 1, sends + 1
            c, outer, outer_total = nesterov((c, outer, outer_total), anchor[k] - local[k], 0.7, 0.3, 2, sends)
            local[k] = anchor[k] = local[k] + 0.25 * (c - local[k])
        return local[k]

    serve(PROBLEM, STEPS, 2, factors, come)
    strategy = ls.HALoS(2, 2, 3, 0.9, 0.4, 2, 0.7, 0.3, 2, 0.25)
    assert min(meetings) > 4
    check(strategy, factors, c)


def test_clusters_of_different_sizes_have_names() -> None:
    named = ls.HALoS((("Basel", 3), ("Bern", 1)), 2, 2)
    found = trace(named, PROBLEM, STEPS)
    assert np.isfinite(found.center).all()
    assert difference(found.center, trace(ls.HALoS(2, 2, 2), PROBLEM, STEPS).center) > 1e-3
    for clusters, sentence in (
        ((("Basel", 3), ("Bern", 2)), "clusters must have 4 workers in all, got 5"),
        ((("Basel", 3), ("Basel", 1)), "clusters must have one name each"),
        ((("Basel", 0), ("Bern", 4)), "the workers of cluster 'Basel' must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            trace(ls.HALoS(clusters), PROBLEM, STEPS)
    with pytest.raises(
        TypeError, match=r"clusters must be a number of workers or pairs \(name, workers\), got 'B'"
    ):
        ls.HALoS(("B",))  # type: ignore[arg-type]
