"""Pruned weights stay at zero under every optimizer and whatever is averaged; masks keep what they say."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import optimizers_alone

import loosestep as ls
from loosestep import ops
from loosestep.data.models import MLP
from loosestep.optimizers import Optimizer
from loosestep.optimizers.pruning import Mask, Masked

SHAPES = ((5, 6), (7,))
MASK = ls.pruning.random(37, 0.7, 0, SHAPES)
CLASSIFIER = MLP(8).build(features=6, classes=3)


@pytest.mark.parametrize("rules", [ops, ops.exact, ops.racy], ids=["plain", "exact", "racy"])
@pytest.mark.parametrize("kind", optimizers_alone())
def test_pruned_weights_stay_zero_under_momentum_and_decay(kind: type[Optimizer], rules: Any) -> None:
    random = np.random.default_rng(0)
    optimizer = Masked(kind(rate=0.01, weight_decay=0.1), MASK)
    x = MASK.apply(random.standard_normal(37))
    before, moments = x.copy(), optimizer.init(x)
    assert len(moments) == kind.moments
    for step in range(30):
        optimizer.update(x, random.standard_normal(37), moments, step, step + 1, rules=rules, shapes=SHAPES)
    assert not x[~MASK.keep].any()
    assert (x[MASK.keep] != before[MASK.keep]).all()
    assert all(not moment[~MASK.keep].any() for moment in moments)


@pytest.mark.parametrize("kind", optimizers_alone())
def test_a_mask_that_keeps_all_changes_no_bit(kind: type[Optimizer]) -> None:
    random = np.random.default_rng(0)
    plain = kind(weight_decay=0.1)
    masked = Masked(plain, Mask(np.ones(37, np.bool_)))
    x, y = np.ones(37), np.ones(37)
    ours, theirs = masked.init(x), plain.init(y)
    for step in range(5):
        grad = random.standard_normal(37)
        masked.update(x, grad.copy(), ours, step, step + 1, shapes=SHAPES)
        plain.update(y, grad, theirs, step, step + 1, shapes=SHAPES)
    assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize(
    "strategy",
    [ls.AllReduceSGD(), ls.LocalSGD(3), ls.EASGD(3), ls.CDSGD(), ls.SlowMo(3)],
    ids=repr,
)
def test_a_run_ends_where_it_began_sparse(strategy: ls.Strategy) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((64, 6), np.float32), np.arange(64) % 3
    start = CLASSIFIER.init(0)
    mask = ls.pruning.snip(start, CLASSIFIER.gradient(start, rows)[1], 0.8, CLASSIFIER.shapes)
    result = ls.run(
        strategy,
        CLASSIFIER.gradient,
        mask.apply(start),
        ls.data.shards(rows, 8, 6, 0),
        optimizer=Masked(ls.Nesterov(0.05, weight_decay=1e-3), mask),
        on=ls.Simulated(2),
        shapes=CLASSIFIER.shapes,
    )
    assert not result.params[~mask.keep].any()
    assert (result.params != start)[mask.keep].any()


def test_a_masked_sampler_has_the_temperature_of_its_own() -> None:
    """Under strategies that keep it, of which those that add the noise themselves would fill pruned entries."""
    mask = ls.pruning.random(4000, 0.5)
    masked = Masked(ls.SGLD(0.25), mask)

    def ended(strategy: ls.Strategy, optimizer: Optimizer = masked, size: int = 2) -> Any:
        batches = lambda rank, size: iter([0.0] * 40)  # noqa: E731
        on = ls.Simulated(size)
        return ls.run(strategy, lambda x, b: x, np.zeros(4000), batches, optimizer=optimizer, on=on).params

    found = ended(ls.AllReduceSGD())
    assert not found[~mask.keep].any()
    assert found[mask.keep].var() == pytest.approx(1 / (1 - 0.25 / 2), rel=0.1)
    assert ended(ls.DownpourMCMC(noise="worker"), size=1)[mask.keep].var() > 0.9
    with pytest.raises(ValueError, match=r"^LocalSGD\(.*\) does not keep the temperature of Masked\(SGLD"):
        ended(ls.LocalSGD())
    with pytest.raises(
        ValueError, match=r"^DownpourMCMC\(\) does not know the noise of Masked\(SGLD.*: say noise='worker'$"
    ):
        ended(ls.DownpourMCMC())
    with pytest.raises(TypeError, match=r"couples chains of SGLD"):
        ended(ls.ElasticMCMC())
    assert np.isfinite(ended(ls.LocalSGD(), Masked(ls.SGLD(temperature=0.0), mask))).all()


def test_a_run_must_begin_where_the_mask_prunes() -> None:
    """Else a center would get a difference from every worker: with four, DOWNPOUR's grows threefold each round."""
    with pytest.raises(
        ValueError, match=r"^x0 must be 0 where Mask\(.*\) prunes, or .*: begin at mask.apply\(x0\)$"
    ):
        ls.run(
            ls.Downpour(),
            lambda x, b: x,
            np.ones(37),
            lambda rank, size: iter([0]),
            optimizer=Masked(ls.SGD(), MASK),
        )


def test_magnitude_keeps_the_largest_and_snip_what_the_loss_feels() -> None:
    weights, slopes = np.array([3.0, -1.0, 2.0, -4.0]), np.array([0.0, 9.0, -2.0, 1.0])
    assert ls.pruning.magnitude(weights, 0.5).keep.tolist() == [True, False, False, True]
    assert ls.pruning.snip(weights, slopes, 0.25).keep.tolist() == [False, True, True, True]
    small = np.array([1, 2, 3, 4], np.float32) * np.float32(1e-25)  # whose products float32 has not
    assert ls.pruning.snip(small, small, 0.5).keep.tolist() == [False, False, True, True]
    assert ls.pruning.magnitude(np.ones(4), 0.5).keep.tolist() == [True, True, False, False], (
        "ties keep the earlier"
    )


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 83), (0.5, 47), (0.9, 18), (1.0, 11)])
def test_biases_are_never_pruned(sparsity: float, kept: int) -> None:
    """6 x 8 and 8 x 3 weights, 8 and 3 biases: only the 72 weights can go."""
    shapes = CLASSIFIER.shapes
    for mask in (
        ls.pruning.magnitude(CLASSIFIER.init(0), sparsity, shapes),
        ls.pruning.random(CLASSIFIER.size, sparsity, 3, shapes),
    ):
        assert mask.kept == kept
        assert mask.keep[48:56].all()
        assert mask.keep[-3:].all()


def test_a_mask_is_a_value() -> None:
    again = ls.pruning.random(37, 0.7, 0, SHAPES)
    other = ls.pruning.random(37, 0.7, 1, SHAPES)
    assert again == MASK
    assert other != MASK
    assert repr(again) == repr(MASK) != repr(other)
    assert repr(Masked(ls.SGD(0.5), MASK)) == f"Masked(SGD(rate=0.5), mask={MASK!r})"
    assert pickle.loads(pickle.dumps(MASK)) == MASK
    assert Masked(ls.SGD(0.5), MASK).scaled(2) == Masked(ls.SGD(1.0), again)
    with pytest.raises(ValueError, match="read-only"):
        MASK.keep[0] = False


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^sparsity must be at most 1, got 1.5$"):
        ls.pruning.magnitude(np.ones(4), 1.5)
    with pytest.raises(ValueError, match=r"^shapes must have 4 entries together, as the buffer has, got 6$"):
        ls.pruning.magnitude(np.ones(4), 0.5, ((2, 3),))
    with pytest.raises(ValueError, match=r"^grad must have 4 entries, as params has, got 5$"):
        ls.pruning.snip(np.ones(4), np.ones(5), 0.5)
    with pytest.raises(ValueError, match=r"must be finite where they are ranked, got some that are not$"):
        ls.pruning.magnitude(np.array([1.0, np.nan]), 0.5)
    with pytest.raises(TypeError, match=r"^keep must be a flat boolean array, got dtype int64 and shape \(2,\)$"):
        Mask(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"^params must have 37 entries, as the mask has, got 5$"):
        Masked(ls.SGD(), MASK).update(np.ones(5), np.ones(5), (), 0, 1)
    with pytest.raises(ValueError, match=r"must be flat where they are ranked, got shape \(2, 2\)$"):
        ls.pruning.magnitude(np.ones((2, 2)), 0.5)
    with pytest.raises(TypeError, match=r"^mask must be a Mask, got None$"):
        Masked(ls.SGD(), None)  # type: ignore[arg-type]
