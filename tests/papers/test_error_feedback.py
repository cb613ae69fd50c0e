"""Error feedback: the recursion of EF-SGD, what is invariant, what it wraps, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.requests.worker import Worker
from loosestep.strategies import coded

PROBLEM = quadratics(4, 24)
EXACT = ls.TopK(1.0, width=64)
LOSSY = [
    ls.Sign(),
    ls.TopK(0.1, width=64),
    ls.ChunkedTopK(2, 8, ls.Bins()),
    ls.RandomK(0.25),
    ls.QSGD(3, 8),
    ls.PowerSGD(1),
    ls.Float8(),
]


class Watched(ls.ErrorFeedback):
    """Keeps the states of its workers, by rank."""

    seen: dict[int, Any] = {}  # noqa: RUF012

    def init(self, worker: Any) -> ls.State:
        self.seen[worker.rank] = state = super().init(worker)
        return state


def residuals(workers: int = 4) -> Array:
    return np.array([np.array(Watched.seen[rank].kept.residual) for rank in range(workers)])


@pytest.mark.parametrize("codec", LOSSY, ids=repr)
@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
def test_nothing_is_lost(codec: ls.Codec, on: Any) -> None:
    """x_t - mean_i e_i,t = x_0 - the sum of eta mean_i g_i; e is kept as a gradient, so it is eta times that."""
    found = trace(Watched(codec=codec), PROBLEM, 25, on=on)
    gradients = np.array([PROBLEM.gradients(x) for x in np.stack(found.points, axis=1)])
    moved = RATE * gradients.mean(axis=1).sum(axis=0)
    assert difference(found.center - RATE * residuals().mean(axis=0), PROBLEM.start - moved) < EQUAL
    assert np.abs(residuals()).max() > 0.01, "something was lost on the way"


def test_nothing_is_lost_where_the_rate_changes() -> None:
    rates = ls.schedules.Polynomial(RATE, steps=30)
    found = trace(Watched(codec=ls.TopK(0.1, width=64)), PROBLEM, 20, optimizer=ls.SGD(rates))
    gradients = np.array([PROBLEM.gradients(x).mean(axis=0) for x in np.stack(found.points, axis=1)])
    moved = sum(rates(step) * gradient for step, gradient in enumerate(gradients))
    last = rates(19) * residuals().mean(axis=0)
    assert difference(found.center - last, PROBLEM.start - moved) < EQUAL


def test_it_follows_its_recursion() -> None:
    """p = eta g + e, q = (|p|_1 / d) sign(p), e = p - q, x = x - mean q."""
    x, e = PROBLEM.start.copy(), np.zeros((4, 24))
    for _ in range(25):
        p = RATE * PROBLEM.gradients(np.tile(x, (4, 1))) + e
        q = np.abs(p).mean(axis=1, keepdims=True).astype(np.float32) * np.where(np.signbit(p), -1, 1)
        e, x = p - q, x - q.mean(axis=0)
    found = trace(ls.ErrorFeedback(codec=ls.Sign()), PROBLEM, 25)
    assert difference(found.center, x) < 1e-6, "the mean size is sent as float32"


def test_what_loses_nothing_is_the_strategy_itself() -> None:
    plain = trace(ls.AllReduceSGD(), PROBLEM, 20)
    for codec in (EXACT, ls.PowerSGD(24, width=64), ls.RandomK(1.0)):
        assert difference(trace(ls.ErrorFeedback(codec=codec), PROBLEM, 20).replicas, plain.replicas) < EQUAL
    assert (trace(ls.ErrorFeedback(codec=EXACT), PROBLEM, 20).replicas == plain.replicas).all()
    for strategy in (ls.LocalSGD(4), ls.DiLoCo(4, momentum=0.5), ls.BMUF(4), ls.SlowMo(4), ls.FedAvg(4)):
        same = trace(ls.ErrorFeedback(strategy, EXACT), PROBLEM, 20, optimizer=ls.Nesterov(0.1))
        assert difference(same.replicas, trace(strategy, PROBLEM, 20, optimizer=ls.Nesterov(0.1)).replicas) < EQUAL


def test_qsparse_local_sgd_follows_its_recursion() -> None:
    """Every 5 steps: p = (c - x) + e, q = top-3 of p, e = p - q, c = c - mean q."""
    c, e = PROBLEM.start.copy(), np.zeros((4, 24))
    for _ in range(6):
        x = np.tile(c, (4, 1))
        for _ in range(5):
            x = x - RATE * PROBLEM.gradients(x)
        p = (c - x) + e
        q = np.zeros_like(p)
        for row, kept in zip(p, q, strict=True):
            largest = np.argsort(-np.abs(row), kind="stable")[:3]
            kept[largest] = row[largest]
        e, c = p - q, c - q.mean(axis=0)
    found = trace(ls.ErrorFeedback(ls.LocalSGD(5), ls.TopK(0.125, width=64)), PROBLEM, 30)
    assert difference(found.center, c) < EQUAL


def test_power_sgd_depends_on_the_mean_alone_and_warms_up() -> None:
    """Workers whose gradients differ take the step that the mean gives; replicas are the same to the bit."""
    found = trace(ls.ErrorFeedback(codec=ls.PowerSGD(2, 6, width=64)), PROBLEM, 1)
    x = PROBLEM.start
    m = PROBLEM.gradients(np.tile(x, (4, 1))).mean(axis=0).reshape(4, 6)
    step = ((x - found.center) / RATE).reshape(4, 6)
    assert np.linalg.matrix_rank(step, tol=1e-9) == 2
    u, s, _ = np.linalg.svd(step)
    p = u[:, :2]
    assert difference(p @ p.T @ m, step) < 1e-9, "a projection of the mean"
    assert s[1] > 0.01
    assert (found.replicas == found.replicas[0]).all()


REFUSED = {
    ls.CDSGD(): "mixes parameters of neighbours: a codec would round the parameters themselves",
    ls.EASGD(): "fetches parameters from a center: a codec would round",
    ls.Downpour(): "pushes to a center, from which it fetches parameters: a codec would round",
    ls.SyncEASGD(): "averages copies of parameters, or moments of the optimizer: a codec would round",
    ls.DaSGD(): "averages copies of parameters, or moments",
    ls.StreamingDiLoCo(4, 1, 0): "averages copies of parameters, or moments",
    ls.LocalSGD(momentum="average"): "averages copies of parameters, or moments",
    ls.HierarchicalLocalSGD(): "averages parameters in groups, which have no common starting point",
    ls.Hogwild(): "has parameters that workers share",
}


@pytest.mark.parametrize("strategy", REFUSED, ids=repr)
def test_rounding_raw_parameters_is_refused_with_the_reason(strategy: ls.Strategy) -> None:
    with pytest.raises(ValueError, match=r"^strategy must send differences, but ") as caught:
        ls.ErrorFeedback(strategy)
    assert REFUSED[strategy] in str(caught.value)


def test_what_cannot_be_wrapped_is_refused() -> None:
    for strategy in (ls.Stages.example(), ls.ErrorFeedback()):
        with pytest.raises(ValueError, match="^strategy must be one that can be wrapped, got "):
            ls.ErrorFeedback(strategy)
    with pytest.raises(TypeError, match=r"^codec must be a Codec, got .*, did you mean Sign\(\)\?$"):
        ls.ErrorFeedback(codec=ls.Sign)  # type: ignore[arg-type]


def test_one_without_data_keeps_its_residual_and_counts_for_nothing() -> None:
    def batches(rank: int, size: int) -> Iterator[int]:
        return iter([rank] * (4 if rank == 3 else 20))

    for codec in (ls.TopK(0.1, width=64), ls.RandomK(0.25)):
        four = ls.run(
            Watched(ls.LocalSGD(2), codec),
            PROBLEM.gradient,
            PROBLEM.start,
            batches,
            on=ls.Threads(4),
            optimizer=ls.SGD(RATE),
        )
        after = residuals()[3]
        ls.run(
            Watched(ls.LocalSGD(2), codec),
            PROBLEM.gradient,
            PROBLEM.start,
            batches,
            on=ls.Threads(4),
            optimizer=ls.SGD(RATE),
            steps=4,
        )
        assert (residuals()[3] == after).all()
        assert after.any()
        assert (four.workers[0].params == four.workers[3].params).all()


def test_what_belongs_to_no_tensor_stays_zero() -> None:
    """Flat buffers of torch have padding between tensors; a sign has no zero, so it would move there."""
    worker = Worker(0, 1, np.zeros(40), lambda name, like: None)  # type: ignore[arg-type, return-value]
    assert worker.padding() == []
    worker.edges, worker.shapes = [0, 16], ((2, 3), (20,))
    assert worker.padding() == [slice(6, 16), slice(36, 40)]
    x = np.ones(40)
    coded.clear_padding(worker, x)
    assert (np.flatnonzero(x) == [*range(6), *range(16, 36)]).all()


@pytest.mark.parametrize(
    "strategy", [Watched(codec=ls.Sign()), Watched(ls.LocalSGD(2), ls.TopK(0.1, width=64))], ids=repr
)
def test_another_number_of_workers_begins_with_the_mean_of_the_residuals(
    strategy: Watched, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"optimizer": ls.SGD(RATE), "checkpoint": tmp_path}
    forever = lambda rank, size: iter([rank] * 100)  # noqa: E731
    first = ls.run(strategy, PROBLEM.gradient, PROBLEM.start, forever, on=ls.Threads(4), steps=6, **options)
    before = residuals().mean(axis=0)
    again = ls.run(
        strategy, PROBLEM.gradient, PROBLEM.start, forever, on=ls.Threads(2), steps=6, resume=True, **options
    )
    assert difference(again.params, first.params) < EQUAL
    assert difference(residuals(2)[0], before) < EQUAL
    assert (residuals(2)[0] == residuals(2)[1]).all()
