"""SG-MCMC: variances in closed form, and what the protocols of several workers keep of them.

Many independent coordinates are sampled at once, so a short run says a variance within a percent.
"""

from __future__ import annotations

from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.foundation.errors import WorkerFailed
from loosestep.optimizers import Optimizer
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

D = 2000  # coordinates
FOUR = ls.Simulated(4, latency=0.0)
NOTHING = np.zeros(1)


def draw(
    folder: Path,
    strategy: Strategy,
    sampler: Optimizer,
    steps: int,
    on: Transport | None = None,
    curvature: float = 1.0,
    start: float = 0.0,
    **options: Any,
) -> ls.Samples:
    """Sample from h |x|^2 / 2, and keep a draw every 40th of the steps after the first fifth."""
    samples = ls.Samples(folder / "samples", burn_in=steps // 5, thin=max(1, steps // 40))
    ls.run(
        strategy,
        lambda x, batch: curvature * x,
        np.full(D, start),
        lambda rank, size: islice(repeat(NOTHING), steps),
        optimizer=sampler,
        on=on or ls.Serial(),
        every=samples.thin,
        samples=samples,
        **options,
    )
    return samples


# --- one chain ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "variance"),
    [
        (ls.SGLD(0.25), 1 / (1 - 0.25 / 2)),
        (ls.SGLD(0.25, temperature=0.5), 0.5 / (1 - 0.25 / 2)),
        (ls.SGLD(0.25, examples=100), 0.01 / (1 - 0.25 / 2)),
        (ls.SGHMC(0.2, friction=0.3), 1 / (1 - 0.2 / (2 * 1.7))),
        (ls.SGHMC(0.1, friction=0.4, noise_estimate=0.1), 0.75 / (1 - 0.1 / (2 * 1.6))),
        (ls.PSGLD(0.125, decay=1.0, epsilon=0.5), 1 / (1 - 0.25 / 2)),  # M = 2
    ],
    ids=repr,
)
def test_the_variance_of_draws(tmp_path: Path, sampler: Optimizer, variance: float) -> None:
    found = draw(tmp_path, ls.OneShotAveraging(), sampler, 400).draws().var()
    assert found == pytest.approx(variance, rel=0.03)


def test_without_friction_there_is_no_noise_to_sample_by() -> None:
    with pytest.raises(
        ValueError, match=r"^friction must be above 0, as noise replaces what it takes away, got 0.0$"
    ):
        ls.SGHMC(friction=0.0)
    assert ls.SGHMC(friction=0.0, temperature=0.0).variance(0) == 0


@pytest.mark.parametrize(
    ("sampler", "more"),
    [
        (ls.SGLD(0.1, examples=100), 0.1 * 100 / 2),
        (ls.SGHMC(0.02, examples=100, friction=0.2), 0.02 * 100 / (2 * 0.2)),
        (ls.SGHMC(0.02, examples=100, friction=0.2, noise_estimate=0.02 * 100 / 2 * 9 / 99), 0.0),
    ],
    ids=repr,
)
def test_batches_widen_the_posterior_by_the_noise_of_their_gradients(
    tmp_path: Path, sampler: Optimizer, more: float
) -> None:
    """Ten of 100 rows without replacement: their mean has a variance of (1 / 10) (1 - 10 / 100) 100 / 99 V."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, D))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    samples = ls.Samples(tmp_path / "samples", burn_in=150, thin=15)
    ls.run(
        ls.OneShotAveraging(),
        lambda x, batch: x - batch.mean(axis=0),
        np.zeros(D),
        lambda rank, size: (rows[rng.choice(100, 10, replace=False)] for _ in range(600)),
        optimizer=sampler,
        samples=samples,
    )
    alone = 1 / (1 - 0.1 / 2) if isinstance(sampler, ls.SGLD) else 1 / (1 - 0.02 / (2 * 1.8))
    assert samples.draws().var() * 100 == pytest.approx(alone * (1 + more * 9 / 99), rel=0.03)


def test_psgld_with_its_own_matrix_samples_both_of_two_scales(tmp_path: Path) -> None:
    """A step of M epsilon: the bias of SGLD at that step, and one by the matrix, which still moves."""
    for curvature in (0.01, 1.0):
        sampler = ls.PSGLD(0.02 * curvature**-0.5, decay=0.999)
        where = tmp_path / str(curvature)
        samples = draw(where, ls.OneShotAveraging(), sampler, 2000, curvature=curvature, start=curvature**-0.5)
        assert samples.draws().var() * curvature == pytest.approx(1, rel=0.06)


def test_sghmc_without_inertia_is_sgld(tmp_path: Path) -> None:
    one, other = (
        draw(tmp_path / str(number), ls.OneShotAveraging(), sampler, 50).draws()
        for number, sampler in enumerate((ls.SGLD(0.25), ls.SGHMC(0.25, friction=1.0)))
    )
    assert np.abs(one - other).max() < 1e-13


@pytest.mark.parametrize(
    ("sampler", "optimizer"),
    [
        (ls.SGLD(0.1, temperature=0.0), ls.SGD(0.1)),
        (ls.SGHMC(0.1, temperature=0.0, friction=0.25), ls.Momentum(0.1, 0.75)),
    ],
)
def test_at_temperature_0_it_is_the_optimizer_bit_for_bit(sampler: Optimizer, optimizer: Optimizer) -> None:
    one, other = (ended(ls.LocalSGD(3), each).params for each in (sampler, optimizer))
    assert one.tobytes() == other.tobytes()


def ended(strategy: Strategy, optimizer: Optimizer, on: Transport = FOUR, **options: Any) -> ls.Result:
    """Twelve steps towards four different points, at uneven speeds."""
    return ls.run(
        strategy,
        lambda x, batch: x - batch,
        np.linspace(0, 1, 7),
        lambda rank, size: islice(repeat(1.0 + rank), 12),
        optimizer=optimizer,
        on=on,
        **options,
    )


# --- DOWNPOUR ----------------------------------------------------------------------------------------------

UNEVEN = ls.Simulated(4, stragglers=ls.stragglers.LogNormal())


@pytest.mark.parametrize("optimizer", [ls.SGD(0.1), ls.SGLD(0.1, temperature=0.0), ls.Nesterov(0.1)])
@pytest.mark.parametrize("noise", ["center", "worker"])
def test_without_noise_it_is_downpour_bit_for_bit(optimizer: Optimizer, noise: Any) -> None:
    ours, theirs = (ended(each, optimizer, UNEVEN) for each in (ls.DownpourMCMC(3, noise), ls.Downpour(3)))
    assert ours.params.tobytes() == theirs.params.tobytes()
    assert ours.seconds == theirs.seconds


@pytest.mark.parametrize(("epsilon", "period"), [(0.1, 4), (0.1, 16), (0.02, 16)])
def test_alone_with_noise_at_the_center(tmp_path: Path, epsilon: float, period: int) -> None:
    steps = 800 if epsilon > 0.05 else 1600
    samples = draw(tmp_path, ls.DownpourMCMC(period), ls.SGLD(epsilon / 2), steps)
    expected = period * epsilon / (1 - (1 - epsilon / 2) ** (2 * period))
    assert samples.consensus[len(samples.consensus) // 4 :].var() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("noise", ["center", "worker"])
def test_alone_with_period_1_it_draws_what_sgld_draws(noise: Any) -> None:
    sampler = ls.SGLD(0.1, examples=10)
    ours, theirs = (
        ended(each, sampler, ls.Serial(), seed=5) for each in (ls.DownpourMCMC(1, noise), ls.OneShotAveraging())
    )
    assert np.abs(ours.params - theirs.params).max() < 1e-15


def test_four_workers_with_small_steps_sample_the_posterior_with_noise_at_either_end(tmp_path: Path) -> None:
    """By the staleness of drifts a little more: 1.03 to 1.04 at epsilon 0.005, period 4."""
    for noise in ("center", "worker"):
        samples = draw(tmp_path / noise, ls.DownpourMCMC(4, noise), ls.SGLD(0.0025), 1600, FOUR)
        assert 1.0 < samples.consensus[6:].var() < 1.08


@pytest.mark.parametrize(("rate", "friction", "size"), [(0.01, 0.1, 1), (0.01, 0.2, 1), (0.0025, 0.2, 4)])
def test_noise_at_the_center_has_none_of_the_inertia_of_sghmc(
    tmp_path: Path, rate: float, friction: float, size: int
) -> None:
    """The variance of x'' = -a x' - rate h x with noise of 2 rate / a in x alone: 1 / h + rate / a^2."""
    on, sampler = ls.Simulated(size, latency=0.0), ls.SGHMC(rate, friction=friction)
    samples = draw(tmp_path, ls.DownpourMCMC(), sampler, 800, on)
    assert samples.consensus[12:].var() == pytest.approx(1 + size * rate / friction**2, rel=0.07)
    if size > 1:
        samples = draw(tmp_path / "worker", ls.DownpourMCMC(noise="worker"), sampler, 800, on)
        assert 0.95 < samples.consensus[12:].var() < 1.08


def test_psgld_needs_its_noise_at_the_workers() -> None:
    with pytest.raises(ValueError, match=r"^DownpourMCMC\(\) does not know the noise of PSGLD\(\): say noise="):
        ended(ls.DownpourMCMC(), ls.PSGLD())
    assert np.isfinite(ended(ls.DownpourMCMC(noise="worker"), ls.PSGLD(examples=10**6)).params).all()


# --- EASGD -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [ls.SGD(0.1), ls.SGLD(0.1, temperature=0.0)])
def test_without_noise_it_is_easgd_bit_for_bit(optimizer: Optimizer) -> None:
    moving = 0.5 * (0.1 + 0.1 + 0.1)
    ours, theirs = (ended(each, optimizer, UNEVEN) for each in (ls.ElasticMCMC(3, 0.5), ls.EASGD(3, moving)))
    assert ours.params.tobytes() == theirs.params.tobytes()
    assert ours.workers[2].params.tobytes() == theirs.workers[2].params.tobytes()
    assert ours.seconds == theirs.seconds


def test_the_covariance_of_four_coupled_chains_and_their_center(tmp_path: Path) -> None:
    """The inverse of the joint precision: h + kappa and N kappa on the diagonal, -kappa beside the center."""
    n, h, kappa, strategy = 4, 1.0, 0.5, ls.ElasticMCMC(1, 0.5)
    precision = np.diag([h + kappa] * n + [n * kappa])
    precision[n, :n] = precision[:n, n] = -kappa
    expected = np.linalg.inv(precision)
    samples = draw(tmp_path, strategy, ls.SGLD(0.0125), 1200, FOUR)
    chains, center = samples.draws(), samples.consensus
    found = np.cov(chains.reshape(n, -1))
    assert np.abs(found - expected[:n, :n]).max() < 0.03
    assert center[12:].var() == pytest.approx(expected[n, n], rel=0.04)
    assert strategy.narrowing(n, h) == pytest.approx((h * expected[n, n], h * expected[0, 0]))


def test_without_coupling_chains_are_independent_and_the_sampler_s_own(tmp_path: Path) -> None:
    samples = draw(tmp_path, ls.ElasticMCMC(5, 0.0), ls.SGLD(0.25), 400, FOUR)
    covariance = np.cov(samples.draws().reshape(4, -1))
    assert np.abs(covariance - np.eye(4) / (1 - 0.25 / 2)).max() < 0.04
    alone = draw(tmp_path / "alone", ls.OneShotAveraging(), ls.SGLD(0.25), 400, FOUR)
    assert samples.draws().tobytes() == alone.draws().tobytes()


def test_that_the_center_is_narrow_is_said() -> None:
    (told,) = ls.ElasticMCMC(coupling=0.1).warnings(4)
    assert "its variance is 0.5 of the posterior's" in told
    assert not ls.ElasticMCMC().warnings(1)


def test_a_coupling_that_throws_chains_beyond_the_center_is_refused() -> None:
    """At 3 two chains' distance from the center would be multiplied by -5 in each round."""
    with pytest.raises(
        WorkerFailed, match=r"coupling 1 times the rates of 10 steps is 3, and above 1 chains move"
    ) as told:
        ended(ls.ElasticMCMC(10, 1.0), ls.SGLD(0.3))
    assert isinstance(told.value.__cause__, ValueError)


def test_it_couples_no_other_sampler() -> None:
    with pytest.raises(TypeError, match=r"couples chains of SGLD, whose drift its elastic move is a part of, got"):
        ended(ls.ElasticMCMC(), ls.SGHMC())


# --- the classical bugs ------------------------------------------------------------------------------------


class Averaging(ls.LocalSGD):
    """An average that does not say what it does to noise."""

    def check_sampler(self, sampler: Optimizer) -> None:
        """Accept all."""


def test_a_mean_of_steps_in_place_of_their_sum_is_too_cold_and_is_refused(tmp_path: Path) -> None:
    sampler = ls.SGLD(0.05)
    with pytest.raises(ValueError, match=r"^LocalSGD\(period=1\) does not keep the temperature of SGLD"):
        ended(ls.LocalSGD(1), sampler)
    cold = draw(tmp_path, Averaging(1), sampler, 800, FOUR)
    assert cold.consensus[12:].var() == pytest.approx(0.25 / (1 - 0.05 / 2), rel=0.04)


def test_the_mean_gradient_of_all_rows_needs_the_number_of_all_rows(tmp_path: Path) -> None:
    """Of 100 rows of variance 1, four workers with a quarter each are one chain: the mean is N(mean, 1 / 100)."""
    rows = np.random.default_rng(0).standard_normal((100, D))
    samples = ls.Samples(tmp_path / "samples", burn_in=40, thin=8)
    ls.run(
        ls.AllReduceSGD(),
        lambda x, batch: x - batch.mean(axis=0),
        rows.mean(axis=0),
        lambda rank, size: islice(repeat(rows[rank::size]), 160),
        optimizer=ls.SGLD(0.25, examples=100),
        on=FOUR,
        samples=samples,
    )
    draws = samples.draws()
    assert (draws == draws[:1]).all(), "all workers draw the same noise"
    assert (draws[0] - rows.mean(axis=0)).var() == pytest.approx(0.01 / (1 - 0.25 / 2), rel=0.04)


# --- streams -----------------------------------------------------------------------------------------------


def test_workers_draw_from_streams_of_their_own_and_a_seed_says_which() -> None:
    results = [
        ended(ls.OneShotAveraging(), ls.SGLD(0.1), on, seed=seed)
        for on, seed in ((FOUR, 1), (ls.Threads(4), 1), (FOUR, 2))
    ]
    noise = np.array([[worker.params for worker in result.workers] for result in results])
    assert noise[0].tobytes() == noise[1].tobytes()
    assert np.abs(noise[0] - noise[2]).min() > 0
    assert np.unique(np.round(noise[0] - noise[0][0], 9), axis=0).shape[0] == 4


@pytest.mark.parametrize("strategy", [ls.DownpourMCMC(5), ls.DownpourMCMC(5, "worker"), ls.ElasticMCMC(5, 1.0)])
def test_a_resumed_run_makes_the_draws_of_an_unbroken_one(tmp_path: Path, strategy: Strategy) -> None:
    """It breaks in the middle of a round, two steps after the checkpoint, whose draws are made again."""
    left = [4 * 8 + 7]  # gradients, the last of them after the checkpoint

    def run(name: str, *, resume: bool = False, breaks: bool = False) -> ls.Samples:
        def gradient(x: Any, batch: Any) -> Any:
            left[0] -= breaks
            if breaks and left[0] < 0:
                raise OSError
            return x - batch

        samples = ls.Samples(tmp_path / name, burn_in=2)
        options: dict[str, Any] = {"optimizer": ls.SGLD(0.1), "on": UNEVEN, "seed": 3, "samples": samples}
        options |= {"checkpoint": tmp_path / f"{name}-saved", "checkpoint_every": 4, "resume": resume}
        batches = lambda rank, size: islice(repeat(1.0 + rank), 12)  # noqa: E731
        ls.run(strategy, gradient, np.linspace(0, 1, 7), batches, **options)
        return samples

    whole = run("whole")
    with pytest.raises(WorkerFailed):
        run("broken", breaks=True)
    assert max(len(chain) for chain in ls.Samples(tmp_path / "broken").chains()) > 7
    broken = run("broken", resume=True)
    assert whole.draws().tobytes() == broken.draws().tobytes()
    assert whole.draws().shape == (4, 10, 7)


def test_with_another_number_of_workers_noise_is_that_of_the_steps_made(tmp_path: Path) -> None:
    """Without a drift the center is the sum of all noise: 4 workers' 8 steps, then 2 workers' 8."""
    for size, steps in ((4, 8), (2, 16)):
        result = ls.run(
            ls.DownpourMCMC(4),
            lambda x, batch: 0 * x,
            np.zeros(D),
            lambda rank, size: repeat(NOTHING),
            optimizer=ls.SGLD(0.1),
            steps=steps,
            on=ls.Simulated(size),
            checkpoint=tmp_path / "saved",
            resume=size == 2,
        )
    assert result.params.var() == pytest.approx(0.2 * (4 * 8 + 2 * 8), rel=0.1)


def test_elastic_moves_after_a_change_of_workers_are_those_of_the_steps_made(tmp_path: Path) -> None:
    """A moving rate for all steps since the start, 1.6 and not 0.4, would throw replicas to the other side."""
    for size, steps in ((4, 12), (2, 16)):
        result = ls.run(
            ls.ElasticMCMC(4, 1.0),
            lambda x, batch: x - batch,
            np.zeros(3),
            lambda rank, size: repeat(1.0),
            optimizer=ls.SGD(0.1),
            steps=steps,
            on=ls.Simulated(size),
            checkpoint=tmp_path / "saved",
            resume=size == 2,
        )
    assert (result.params < 1).all()
    assert all((worker.params < 1).all() for worker in result.workers)


def test_in_threads_as_fast_as_they_are(tmp_path: Path) -> None:
    for noise in ("center", "worker"):
        samples = draw(tmp_path / noise, ls.DownpourMCMC(2, noise), ls.SGLD(0.02), 800, ls.Threads(2))  # type: ignore[arg-type]
        assert 0.9 < samples.consensus[12:].var() < 1.25
