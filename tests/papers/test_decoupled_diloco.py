"""Decoupled DiLoCo: radial-directional averages; quorums, windows and the late, as a syncer would have them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics, trace

import loosestep as ls
from loosestep._core import Center
from loosestep.foundation import buffers
from loosestep.requests import Shared
from loosestep.requests.worker import Worker
from loosestep.strategies.decoupled_diloco import radial_directional
from loosestep.transports import center as centers

PROBLEM = quadratics(4, 6)


def average(deltas: Array, weights: list[float]) -> Array:
    """By the library."""
    out = np.empty_like(deltas[0])
    radial_directional(list(deltas), weights, out)
    return out


def by_hand(deltas: Array, weights: list[float]) -> Array:
    w, lengths = np.array(weights)[:, None], np.linalg.norm(deltas, axis=1, keepdims=True)
    direction = (w * deltas / lengths).sum(axis=0) / w.sum()
    return np.asarray((w * lengths).sum() / w.sum() * direction / np.linalg.norm(direction))


def test_it_is_its_formula() -> None:
    deltas = np.random.default_rng(3).standard_normal((5, 40)) * np.array([1, 2, 3, 0.1, 10])[:, None]
    for weights in ([1.0] * 5, [3.0, 1.0, 0.5, 2.0, 7.0]):
        assert difference(average(deltas, weights), by_hand(deltas, weights)) < EQUAL


def test_of_one_or_of_equal_ones_it_is_the_delta() -> None:
    delta = np.random.default_rng(4).standard_normal((1, 40))
    assert difference(average(delta, [2.0]), delta[0]) < EQUAL
    assert difference(average(np.tile(delta, (3, 1)), [1.0, 2.0, 5.0]), delta[0]) < EQUAL


@pytest.mark.parametrize("count", [2, 4, 9])
def test_orthogonal_ones_of_length_1_have_an_average_of_length_1(count: int) -> None:
    found = average(np.eye(count), [1.0] * count)
    assert np.linalg.norm(found) == pytest.approx(1, rel=1e-12)
    assert np.linalg.norm(np.eye(count).mean(axis=0)) == pytest.approx(count**-0.5)


def test_a_weight_of_zero_and_a_delta_of_zero_have_no_direction() -> None:
    deltas = np.array([[3.0, 0.0], [0.0, 0.0], [np.nan, 1.0]])
    assert difference(average(deltas, [1.0, 1.0, 0.0]), np.array([1.5, 0.0])) < EQUAL
    assert difference(average(deltas, [0.0, 0.0, 0.0]), np.zeros(2)) == 0


def test_directions_that_cancel_leave_the_weighted_mean() -> None:
    deltas = np.array([[1.0, 2.0], [-3.0, -6.0]])
    assert difference(average(deltas, [1.0, 1.0]), np.array([-1.0, -2.0])) < EQUAL


@dataclass
class Syncer:
    """The method as one reads it: a syncer, and learners whose steps take `times`. One fragment, period 4."""

    quorum: int | None  # None: of all that have data
    delay: int
    window: int
    times: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    steps: tuple[int, ...] = (48, 48, 48, 48)

    def __post_init__(self) -> None:
        self.c, self.u, self.moves = PROBLEM.start.copy(), np.zeros(6), 0
        self.merged: list[int] = []  # how many learners, by move
        self.x, self.left = PROBLEM.starts(), {}  # type: dict[int, tuple[int, Array, float]]
        self.made, self.took, self.since = [0] * 4, [0] * 4, [0] * 4
        self.left_at: list[int | None] = [None] * 4
        self.quorum_at: list[int | None] = [None] * 4
        ends = [(k * time, i) for i, time in enumerate(self.times) for k in range(1, self.steps[i] + 1)]
        for _, i in sorted(ends):
            self.step(i)

    def step(self, i: int) -> None:
        self.x[i] -= RATE * PROBLEM.gradient(self.x[i], i)
        self.made[i] += 1
        self.look(i)
        fresh = self.made[i] - self.since[i]  # one sample a step: the weight is that number
        if self.made[i] % 4 == 0 and fresh:
            self.left[i] = self.took[i], self.x[i].copy(), float(fresh)
            self.left_at[i], self.quorum_at[i] = self.made[i], None
            self.look(i)

    def look(self, i: int) -> None:
        there = [left for _, left in sorted(self.left.items()) if left[0] == self.moves]
        if self.took[i] == self.moves and self.left_at[i] is not None and self.suffices(len(there)):
            self.quorum_at[i] = self.made[i] if self.quorum_at[i] is None else self.quorum_at[i]
            if self.made[i] - self.quorum_at[i] >= self.window:
                self.move(there)
        since_left = None if self.left_at[i] is None else self.made[i] - self.left_at[i]
        if self.took[i] < self.moves and (since_left is None or since_left >= self.delay):
            self.x[i], self.took[i], self.since[i], self.left_at[i] = self.c, self.moves, self.made[i], None

    def suffices(self, count: int) -> bool:
        if self.quorum is not None:
            return count >= self.quorum
        awaited = [i for i in range(4) if self.made[i] < self.steps[i]]
        return all(i in self.left and self.left[i][0] == self.moves for i in awaited)

    def move(self, there: list[tuple[int, Array, float]]) -> None:
        outer = by_hand(np.array([self.c - x for _, x, _ in there]), [w for _, _, w in there])
        self.u = 0.9 * self.u + outer
        self.c = self.c - 0.7 * (outer + 0.9 * self.u)
        self.moves += 1
        self.merged.append(len(there))


def run(wanted: Syncer, grace: float) -> Any:
    """By the library, where the learners are as fast and have as many batches; messages take no time."""
    slowest = max(wanted.times)
    on = ls.Simulated(
        4,
        step_time=1.0,
        latency=0.0,
        bandwidth=inf,
        stragglers=ls.stragglers.SlowWorker(wanted.times.index(slowest), slowest),
    )
    strategy = ls.DecoupledDiLoCo(4, 1, wanted.quorum, wanted.delay, grace)
    batches = lambda rank, size: repeat(rank, wanted.steps[rank])  # noqa: E731
    return ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, optimizer=ls.SGD(RATE), on=on)


@pytest.mark.parametrize(
    ("wanted", "grace"),
    [
        (Syncer(4, 1, 0), 0.0),
        (Syncer(4, 2, 1), 0.5),
        (Syncer(1, 2, 1), 0.5),
        (Syncer(2, 3, 2, (1.0, 1.0, 1.0, 1.25)), 0.7),
        (Syncer(3, 2, 0, (1.0, 1.0, 1.0, 2.5), (48, 48, 48, 20)), 0.0),
        (Syncer(1, 2, 1, (1.0, 1.0, 1.0, 3.5), (48, 48, 48, 30)), 0.5),
        (Syncer(1, 2, 2, (1.0, 1.0, 1.0, 1.0), (48, 20, 48, 48)), 1.0),
        (Syncer(4, 2, 0, (1.0, 1.0, 1.0, 1.0), (48, 20, 48, 48)), 0.0),
        (Syncer(None, 2, 0, (1.0, 1.0, 1.0, 1.0), (48, 20, 48, 48)), 0.0),
        (Syncer(None, 2, 1, (1.0, 1.0, 1.0, 1.0), (8, 20, 48, 20)), 0.5),
        (Syncer(None, 2, 1, (1.0, 1.0, 1.0, 2.5), (48, 48, 48, 16)), 0.5),
        (Syncer(None, 1, 0, (1.0, 3.0, 1.0, 1.0), (12, 20, 4, 48)), 0.0),
    ],
    ids=str,
)
def test_it_does_what_a_syncer_would(wanted: Syncer, grace: float) -> None:
    found = run(wanted, grace)
    assert difference(found.params, wanted.c) < 1e-11
    assert difference(np.array([worker.params for worker in found.workers]), wanted.x) < 1e-11


def test_a_slow_learner_holds_up_nobody() -> None:
    """Twelve times as slow, with a twelfth of the batches: all are ready when the fast ones are."""
    found = run(Syncer(1, 2, 1, (1.0, 1.0, 1.0, 12.0), (48, 48, 48, 4)), 0.5)
    assert found.seconds == 48.0
    assert [worker.waiting for worker in found.workers] == [0.0] * 4


def test_a_window_lets_in_who_is_a_little_slower() -> None:
    """By 8% of a step in each round; without a window the others' move is there before it leaves anything."""
    times, steps = (1.0, 1.0, 1.0, 1.02), (48, 48, 48, 44)
    strict, patient = (Syncer(3, 2, window, times, steps) for window in (0, 1))
    assert strict.merged == [3] * 12
    assert patient.merged == [4] * 11
    for wanted, grace in ((strict, 0.0), (patient, 0.5)):
        assert difference(run(wanted, grace).params, wanted.c) < 1e-11


def test_what_is_left_for_a_center_that_has_moved_is_dropped() -> None:
    """Learner 1 has not looked when 0 moves the center; only what it leaves afterwards counts."""
    strategy = ls.DecoupledDiLoCo(4, 1, 1, 1, 0.0, rate=1.0, momentum=0.0)
    stores: dict[str, Shared] = {}
    learners, states = [], []

    def share(name: str, like: Any) -> Shared:
        return stores.setdefault(name, Shared(name, like.size, like.dtype, Center(like)))

    for rank in range(2):
        learners.append(Worker(rank, 2, buffers.zeros(3, np.float64), share))
        states.append(strategy.init(learners[rank]))

    def perform(rank: int, requests: Any) -> None:
        for request in requests:
            centers.handlers(rank)[type(request)](request)

    def leave(rank: int, value: float) -> Any:
        """The center after it."""
        worker, state = learners[rank], states[rank]
        worker.params[:], worker.samples = value, worker.samples + 4
        state.looks += 4
        perform(rank, strategy.leave(worker, state, 0))
        perform(rank, strategy.look(worker, state))
        perform(rank, strategy.consensus(worker, state, center := buffers.zeros(3, np.float64)))
        return center.tolist()

    assert [leave(0, 1.0), leave(1, 5.0)] == [[1.0] * 3] * 2
    for rank in range(2):
        states[rank].looks += 1
        perform(rank, strategy.look(learners[rank], states[rank]))
        assert learners[rank].params.tolist() == [1.0] * 3
    assert [leave(0, 2.0), leave(1, 7.0)] == [[2.0] * 3] * 2


def test_who_stops_is_missed_by_a_quorum_of_all_alone() -> None:
    """After step 20 of one learner three go on; a quorum of four is not met again, one of all with data is."""
    steps = (48, 20, 48, 48)
    assert [Syncer(quorum, 2, 0, steps=steps).moves for quorum in (3, 4, None)] == [12, 5, 12]


def test_who_has_data_again_is_waited_for_again(tmp_path: Path) -> None:
    """A finished run that goes on with more data is as one that had it from the beginning."""

    def go(folder: str, steps: int, **options: Any) -> Any:
        batches = lambda rank, size: repeat(rank, 48)  # noqa: E731
        on = ls.Simulated(4, step_time=1.0, latency=0.0, bandwidth=inf)
        options = {"checkpoint": tmp_path / folder, "steps": steps, "optimizer": ls.SGD(RATE), **options}
        strategy = ls.DecoupledDiLoCo(4, 2, delay=1, grace=0.0)
        return ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=on, **options)

    for steps in (12, 24):
        go("parts", steps, resume=True)
    found, whole = go("parts", 48, resume=True), go("whole", 48)
    assert found.params.tobytes() == whole.params.tobytes()
    assert [each.params.tobytes() for each in found.workers] == [each.params.tobytes() for each in whole.workers]


def test_workers_that_are_alike_make_it_streaming_diloco_that_overwrites() -> None:
    one = quadratics(1, 6)
    alike = type(one)(np.tile(one.curvatures, (4, 1)), np.tile(one.minima, (4, 1)), one.start)
    found = trace(ls.DecoupledDiLoCo(4, 2, 4, 1), alike, 48)
    other = trace(ls.StreamingDiLoCo(4, 2, 1, 0.0, 0.7), alike, 48)
    assert difference(found.replicas, other.replicas) < EQUAL


def recursion(fragments: int, delay: int, steps: int) -> Array:
    """In lockstep, with all in the quorum: period 4, rate 0.7, momentum 0.9; replicas at the end."""
    x, c, u, size = PROBLEM.starts(), PROBLEM.start.copy(), np.zeros(6), 6 // fragments
    sent: tuple[int, slice, Array] | None = None
    for step in range(1, steps + 1):
        x = x - RATE * PROBLEM.gradients(x)
        if sent is not None and sent[0] == step:
            _, part, snapshots = sent
            outer = by_hand(c[part] - snapshots, [1.0] * 4)
            u[part] = 0.9 * u[part] + outer
            c[part] = c[part] - 0.7 * (outer + 0.9 * u[part])
            x[:, part], sent = c[part], None
        if step % 4 == 0:
            place = (step // 4 - 1) % fragments
            part = slice(place * size, (place + 1) * size)
            sent = (step + delay, part, x[:, part].copy())
    return x


@pytest.mark.parametrize(("fragments", "delay"), [(1, 1), (2, 2), (3, 2)])
def test_in_lockstep_fragments_take_turns(fragments: int, delay: int) -> None:
    found = trace(ls.DecoupledDiLoCo(4, fragments, 4, delay, 0.0), PROBLEM, 48)
    assert difference(found.replicas, recursion(fragments, delay, 48)) < 1e-11


def test_what_is_sent() -> None:
    """Every round a fragment, its weight and a word of it; the last to come claims, moves, and says so."""
    found = trace(ls.DecoupledDiLoCo(4, 3, 4, 1), PROBLEM, 12).result
    assert found.bytes_sent == 3 * 8 * (4 * (2 + 1 + 4) + (3 + 2 + 3)) // 4
    assert found.messages == 3 * (4 * 2 + 3) // 4


def test_a_quorum_of_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="^quorum must be at most 4, the number of workers, got 5$"):
        trace(ls.DecoupledDiLoCo(quorum=5, fragments=1), PROBLEM, 4)


def test_tensors_are_averaged_one_by_one() -> None:
    made = Worker(0, 1, buffers.zeros(20, np.float64), lambda name, like: Shared(name, 0, like.dtype, None))
    made.edges = (0, 5, 12, 17)
    parts = [made.tensors(part) for part in made.fragments(2)]
    assert parts == [[slice(0, 5), slice(5, 12)], [slice(0, 5), slice(5, 8)]]
