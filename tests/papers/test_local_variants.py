"""Local SGD with a number of steps for each worker, post-local, in groups, of drawn clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.foundation.errors import WorkerFailed

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Threads(4)]
Meeting = Callable[[int, Array], Array]  # (step, replicas) -> replicas


def descend(steps: int, meeting: Meeting, active: Callable[[int], Array] | None = None) -> Array:
    """All replicas after every step, steps + 1 of them; `active(step)` says who moves."""
    x = PROBLEM.starts()
    path = [x]
    for step in range(1, steps + 1):
        moves = np.ones(4) if active is None else active(step)
        x = meeting(step, x - RATE * moves[:, None] * PROBLEM.gradients(x))
        path.append(x)
    return np.array(path)


def averaged(x: Array, groups: list[list[int]]) -> Array:
    x = x.copy()
    for group in groups:
        x[group] = x[group].mean(axis=0)
    return x


def ends_alike(strategy: ls.Strategy, on: ls.Threads, expected: Array) -> None:
    found = trace(strategy, PROBLEM, len(expected) - 1, on=on)
    assert difference(found.replicas, expected[-1]) < EQUAL


# --- a number of steps for each worker -------------------------------------------------------------------------


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_workers_make_as_many_steps_as_they_are_told_and_count_alike(on: ls.Threads) -> None:
    steps = (4, 1, 3, 2)
    expected = descend(
        32,
        lambda step, x: averaged(x, [[0, 1, 2, 3]]) if step % 4 == 0 else x,
        lambda step: np.array([(step - 1) % 4 < mine for mine in steps], float),
    )
    ends_alike(ls.LocalSGD(4, steps=steps), on, expected)
    found = trace(ls.LocalSGD(4, steps=steps), PROBLEM, 32, on=on)
    assert [len(points) for points in found.points] == [8 * mine for mine in steps]


def test_steps_must_fit_the_period_and_the_workers() -> None:
    with pytest.raises(ValueError, match=r"^every number in steps must be in 1 .. 4, got 5$"):
        ls.LocalSGD(4, steps=(5, 1))
    with pytest.raises(WorkerFailed, match=r"a number for each of 4 workers, got \(4, 1\)"):
        trace(ls.LocalSGD(4, steps=(4, 1)), PROBLEM, 8)


# --- post-local ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_until_the_switch_all_is_one_and_then_local_sgd(on: ls.Threads) -> None:
    def meeting(step: int, x: Array) -> Array:
        return averaged(x, [[0, 1, 2, 3]]) if step <= 10 or (step - 10) % 4 == 0 else x

    ends_alike(ls.PostLocalSGD(10, 4), on, descend(26, meeting))
    ends_alike(ls.PostLocalSGD(10, 4), on, descend(10, meeting))


def test_up_to_the_switch_it_has_the_bits_of_period_1_also_with_momentum() -> None:
    optimizer = ls.Nesterov(RATE, 0.9)
    late, never = (
        trace(ls.PostLocalSGD(switch, 4), PROBLEM, 24, optimizer=optimizer).points for switch in (12, None)
    )
    for one, other in zip(late, never, strict=True):
        assert (one[:13] == other[:13]).all()
        assert (one[13:] != other[13:]).any()


# --- groups ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("levels", [((1, 2), (4, None)), ((2, 1), (4, 2), (12, None))], ids=str)
def test_the_largest_period_that_divides_the_step_says_who_meets(
    levels: tuple[tuple[int, int | None], ...], on: ls.Threads
) -> None:
    def meeting(step: int, x: Array) -> Array:
        due = [count or 4 for period, count in levels if step % period == 0]
        return averaged(x, [list(range(low, low + due[-1])) for low in range(0, 4, due[-1])]) if due else x

    ends_alike(ls.HierarchicalLocalSGD(levels), on, descend(24, meeting))


def test_levels_1_and_tau_are_local_sgd_of_groups_that_do_minibatch_sgd() -> None:
    """Super-worker g's function is the mean of its members': curvatures and minima of the mean gradient."""
    x, path = np.tile(PROBLEM.start, (2, 1)), []
    for step in range(1, 25):
        gradients = PROBLEM.gradients(np.repeat(x, 2, axis=0)).reshape(2, 2, 5).mean(axis=1)
        x = x - RATE * gradients
        x = np.tile(x.mean(axis=0), (2, 1)) if step % 6 == 0 else x
        path.append(x)
    found = trace(ls.HierarchicalLocalSGD(((1, 2), (6, None))), PROBLEM, 24)
    assert difference(found.replicas, np.repeat(path[-1], 2, axis=0)) < EQUAL


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ((), "the group of the last of levels must be None, all workers"),
        (((4, 2),), "the group of the last of levels must be None, all workers"),
        (((2, 2), (5, None)), "every period in levels must be a multiple of the one before"),
        (((2, 2), (4, 3), (8, None)), "every group in levels must be a multiple of the one before"),
        (((2, 2), (2, None)), "every period in levels must be a multiple of the one before"),
    ],
)
def test_levels_that_are_not_nested_are_refused(levels: tuple[tuple[int, int | None], ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        ls.HierarchicalLocalSGD(levels)


def test_three_workers_in_groups_of_two_leave_one_alone() -> None:
    strategy = ls.HierarchicalLocalSGD(((1, 2), (4, None)))
    assert [strategy.group(rank, 3, 1) for rank in range(3)] == [(0, 1), (0, 1), (2,)]
    assert strategy.group(2, 3, 4) is None


# --- clients ---------------------------------------------------------------------------------------------------


def test_those_who_are_not_drawn_rest_and_use_up_no_data() -> None:
    strategy = ls.FedAvg(period=3, fraction=0.5, seed=7)
    drawn = [strategy.clients(4, number) for number in range(1, 9)]
    expected = descend(
        24,
        lambda step, x: np.tile(x[drawn[step // 3 - 1]].mean(axis=0), (4, 1)) if step % 3 == 0 else x,
        lambda step: np.isin(range(4), drawn[(step - 1) // 3]).astype(float),
    )
    found = trace(strategy, PROBLEM, 24)
    assert difference(found.replicas, expected[-1]) < EQUAL
    counts = Counter(rank for clients in drawn for rank in clients)
    assert [len(points) for points in found.points] == [3 * counts[rank] for rank in range(4)]


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 1), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_fraction_of_the_clients_is_drawn_by_seed_and_round(fraction: float, count: int) -> None:
    rounds = [ls.FedAvg(fraction=fraction, seed=3).clients(4, number) for number in range(1, 401)]
    assert all(len(set(clients)) == count for clients in rounds)
    shares = Counter(rank for clients in rounds for rank in clients)
    assert all(abs(shares[rank] / 400 - count / 4) < 0.08 for rank in range(4)), "each as often as the others"
    assert rounds == [ls.FedAvg(fraction=fraction, seed=3).clients(4, number) for number in range(1, 401)]
    others = [ls.FedAvg(fraction=fraction, seed=4).clients(4, number) for number in range(1, 401)]
    assert (rounds != others) == (fraction < 1) or sorted(map(sorted, rounds)) == sorted(map(sorted, others))


def test_clients_count_by_their_samples() -> None:
    counts = np.array([1, 2, 3, 10])

    def batches(rank: int, size: int) -> Iterator[list[int]]:
        while True:
            yield [rank] * counts[rank]

    found = ls.run(
        ls.FedAvg(period=4),
        lambda x, batch: PROBLEM.gradient(x, batch[0]),
        PROBLEM.start,
        batches,
        optimizer=ls.SGD(RATE),
        steps=12,
        on=ls.Simulated(4),
    )
    expected = descend(12, lambda step, x: np.tile(counts @ x / counts.sum(), (4, 1)) if step % 4 == 0 else x)
    assert difference(found.params, expected[-1][0]) < EQUAL


# --- once ------------------------------------------------------------------------------------------------------


def test_one_step_and_one_average_are_a_minibatch_step() -> None:
    found = trace(ls.OneShotAveraging(), PROBLEM, 1)
    assert difference(found.center, trace(ls.AllReduceSGD(), PROBLEM, 1).center) < EQUAL


def test_the_average_is_of_each_evaluation_and_replicas_stay_apart() -> None:
    path = descend(12, lambda step, x: x)
    found = trace(ls.OneShotAveraging(), PROBLEM, 12, every=4)
    assert difference(found.centers, path[4::4].mean(axis=1)) < EQUAL
    assert difference(found.replicas, path[-1]) < EQUAL
    assert found.result.bytes_sent == 0
