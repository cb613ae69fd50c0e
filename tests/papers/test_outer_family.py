"""DES-LOC, SPARTA, LOSCAR, eager DiLoCo, GPA and MuLoCo: recursions in plain numpy, and what they keep."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.optimizers.muon import MULOCO
from loosestep.requests.worker import Worker

PROBLEM, SIZE = quadratics(4, 8), 8


def places(count: int, number: int, size: int = SIZE) -> Array:
    """The coordinates of a round: those that a worker draws."""
    return Worker(0, 1, np.zeros(size), lambda name, like: None).sample(count, number)  # type: ignore[return-value]


# --- the coordinates that meet -------------------------------------------------------------------------------


def test_coordinates_are_drawn_without_replacement_the_same_everywhere_and_evenly() -> None:
    drawn = [places(30, number, 120) for number in range(400)]
    assert all(len(set(each)) == 30 and (np.diff(each) > 0).all() for each in drawn)
    assert any((one != other).any() for one, other in pairwise(drawn))
    counts = np.bincount(np.concatenate(drawn), minlength=120)  # of 400 draws a quarter each
    assert abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)
    assert (places(SIZE, 3) == np.arange(SIZE)).all()
    assert (places(30, 5, 120) == drawn[5]).all()


def test_sparta_averages_some_and_leaves_the_others() -> None:
    x = PROBLEM.starts()
    for step in range(1, 41):
        x = x - RATE * PROBLEM.gradients(x)
        some = places(3, step)
        x[:, some] = x[:, some].mean(axis=0)
    found = trace(ls.SPARTA(3 / SIZE), PROBLEM, 40)
    assert difference(found.replicas, x) < EQUAL
    assert difference(found.center, x.mean(axis=0)) < EQUAL


def test_sparta_diloco_meets_seldom_as_well() -> None:
    x, c, u = PROBLEM.starts(), PROBLEM.start, np.zeros(SIZE)
    for step in range(1, 41):
        x = x - RATE * PROBLEM.gradients(x)
        some = places(2, step)
        x[:, some] = x[:, some].mean(axis=0)
        if step % 8 == 0:
            d = c - x.mean(axis=0)
            u = 0.6 * u + d
            c = c - 0.7 * (d + 0.6 * u)
            x = np.tile(c, (4, 1))
    found = trace(ls.SPARTADiLoCo(2 / SIZE, 8, 0.7, 0.6), PROBLEM, 40)
    assert difference(found.replicas, x) < EQUAL


@pytest.mark.parametrize("delay", [0, 2, 4])
def test_loscar_corrects_some_coordinates_late_and_loses_no_step(delay: int) -> None:
    x, sent = PROBLEM.starts(), None
    for step in range(1, 41):
        x = x - RATE * PROBLEM.gradients(x)
        if sent is not None and (step - delay) % 4 == 0 and delay:
            some, y = sent
            before = x.mean(axis=0)
            x[:, some] = y.mean(axis=0) + (x[:, some] - y)
            assert difference(x.mean(axis=0), before) < EQUAL, "the mean of the replicas stays"
            sent = None
        if step % 4 == 0:
            some = places(3, step // 4)
            sent = some, x[:, some].copy()
            if not delay:
                x[:, some] = x[:, some].mean(axis=0)
    assert difference(trace(ls.LOSCAR(4, delay, 3 / SIZE), PROBLEM, 40).replicas, x) < EQUAL


def test_who_averages_some_sends_some() -> None:
    wide = quadratics(4, 200)
    for strategy, rounds in ((ls.SPARTA(0.05), 8), (ls.LOSCAR(4, 0, 0.05), 2)):
        sent = sum(worker.bytes_sent for worker in trace(strategy, wide, 8).result.workers)
        assert sent == rounds * 2 * 3 * 10 * 8


# --- three periods -------------------------------------------------------------------------------------------


def test_desloc_averages_each_part_on_its_own_clock() -> None:
    x, m, v = PROBLEM.starts(), np.zeros((4, SIZE)), np.zeros((4, SIZE))
    for step in range(1, 25):
        g = PROBLEM.gradients(x)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        x = x - 0.02 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
        x = np.tile(x.mean(axis=0), (4, 1)) if step % 2 == 0 else x
        m = np.tile(m.mean(axis=0), (4, 1)) if step % 4 == 0 else m
        v = np.tile(v.mean(axis=0), (4, 1)) if step % 6 == 0 else v
    found = trace(ls.DESLOC(2, 4, 6), PROBLEM, 24, optimizer=ls.Adam(0.02, 0.9, 0.99))
    assert difference(found.replicas, x) < EQUAL


@pytest.mark.parametrize(
    ("strategy", "means"), [(ls.DESLOC(4, 8, 16), 6 + 3 + 1), (ls.DESLOC(6, 4, 10), 4 + 6 + 2)]
)
def test_desloc_sends_what_its_periods_say(strategy: ls.DESLOC, means: int) -> None:
    sent = trace(strategy, PROBLEM, 24, optimizer=ls.Adam(0.02)).result.workers[0].bytes_sent
    assert sent == means * 2 * 3 * SIZE * 8 // 4
    assert ls.DESLOC(64).periods == (192, 384)


# --- eager ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eager", [True, False])
def test_eager_diloco_renews_its_own_share_of_a_late_average(eager: bool) -> None:
    c, u, own, mean = PROBLEM.starts(), np.zeros((4, SIZE)), np.zeros((4, SIZE)), np.zeros(SIZE)
    rate, momentum, fresh_means, estimates = 0.5, 0.4, [], []
    for _ in range(10):
        x = c
        for _ in range(4):
            x = x - RATE * PROBLEM.gradients(x)
        fresh = c - x
        estimate = mean + (fresh - own) / 4 if eager else np.tile(mean, (4, 1))
        u = momentum * u + estimate
        c = c - rate * (estimate + momentum * u)
        own, mean = fresh, fresh.mean(axis=0)
        fresh_means.append(mean)
        estimates.append(estimate.mean(axis=0))
    found = trace(ls.EagerDiLoCo(4, rate, momentum, eager), PROBLEM, 40)
    assert difference(found.replicas, c) < EQUAL
    assert (np.ptp(found.replicas, axis=0).max() == 0) == (not eager)
    late = [np.zeros(SIZE), *fresh_means[:-1]]
    renewed = [old + (new - old) / 4 for old, new in zip(late, fresh_means, strict=True)]
    assert difference(np.array(estimates), np.array(renewed if eager else late)) < EQUAL


# --- averages of one run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interpolation", "averaging"), [(0.7, 0.9), (0.9, None)])
def test_gpa_takes_gradients_between_two_averages(interpolation: float, averaging: float | None) -> None:
    x = z = y = PROBLEM.start
    for step in range(1, 41):
        z = z - RATE * PROBLEM.gradients(np.tile(y, (4, 1))).mean(axis=0)
        kept = 1 - 1 / step if averaging is None else averaging
        x = kept * x + (1 - kept) * z
        y = interpolation * x + (1 - interpolation) * z
    found = trace(ls.GPA(interpolation, averaging), PROBLEM, 40)
    assert difference(found.center, x) < EQUAL
    assert difference(found.replicas, np.tile(y, (4, 1))) < EQUAL


# --- MuLoCo --------------------------------------------------------------------------------------------------


def orthogonal(g: Array, triples: tuple[tuple[float, float, float], ...]) -> Array:
    """The polynomial on singular values instead of matrices."""
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    s = s / np.linalg.norm(g)
    for a, b, c in triples:
        s = a * s + b * s**3 + c * s**5
    return np.asarray(u @ np.diag(s) @ vt)


def test_the_recipe_of_muloco() -> None:
    """Muon inside, u <- m u + r D, c <- c - m u - r D outside: the release's form, with its rate inside u."""
    problem = quadratics(2, 6)
    c, u, momentum = problem.start, np.zeros(6), np.zeros((2, 6))
    for _ in range(4):
        x = np.tile(c, (2, 1))
        for _ in range(5):
            momentum = 0.95 * momentum + problem.gradients(x)
            for i in range(2):
                step = orthogonal(momentum[i].reshape(3, 2), MULOCO).reshape(-1)
                x[i] = (1 - 0.02 * 0.01) * x[i] - 0.02 * np.sqrt(3 / 2) * step
        d = c - x.mean(axis=0)
        u = 0.6 * u + 0.7 * d
        c = c - 0.6 * u - 0.7 * d
    result = ls.run(
        ls.DiLoCo(5, 0.7, 0.6),
        problem.gradient,
        problem.start,
        lambda rank, size: iter([rank] * 20),
        optimizer=ls.Muon.muloco(0.02),
        on=in_turn(2),
        shapes=[(3, 2)],
    )
    assert difference(result.params, c) < 1e-10
