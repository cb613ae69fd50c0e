"""What every local optimizer promises."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import optimizers_alone

import loosestep as ls
from loosestep import ops
from loosestep.optimizers import Optimizer
from loosestep.requests import Proximal

KINDS = optimizers_alone()
every_kind = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def descend(optimizer: Optimizer, dtype: type, steps: int, rules: Any = ops) -> Any:
    """Steps on x . h x / 2 from ones."""
    curvature = np.linspace(0.5, 1.0, 37).astype(dtype)
    x = np.ones(37, dtype)
    moments = optimizer.init(x)
    assert len(moments) == optimizer.moments
    assert all(moment.dtype == dtype and moment.size == 37 and not moment.any() for moment in moments)
    for step in range(steps):
        optimizer.update(x, curvature * x, moments, step, step + 1, rules=rules)
    return x


@every_kind
@dtypes
def test_descends(kind: type[Optimizer], dtype: type) -> None:
    assert np.abs(descend(kind.example(), dtype, 2000)).max() < 1e-3
    assert descend(kind.example(), dtype, 1).max() < 1


@every_kind
@dtypes
@pytest.mark.parametrize("rules", [ops.exact, ops.racy], ids=["exact", "racy"])
def test_shared_memory_gives_the_same_bits_to_one_thread(kind: type[Optimizer], dtype: type, rules: Any) -> None:
    """`x += d` may round once more than the fused rule, so to a few units in the last place."""
    plain, shared = descend(kind.example(), dtype, 20), descend(kind.example(), dtype, 20, rules)
    assert np.abs(plain - shared).max() < 40 * np.finfo(dtype).eps


@every_kind
@dtypes
def test_a_proximal_update_is_the_update_between_two_halves_bit_for_bit(
    kind: type[Optimizer], dtype: type
) -> None:
    optimizer = kind(weight_decay=0.1)
    rng = np.random.default_rng(0)
    x, grad, anchor, mean = (rng.standard_normal(37).astype(dtype) for _ in range(4))
    y, plain, z = x.copy(), grad.copy(), mean.copy()
    ours, theirs = optimizer.init(x), optimizer.init(x)
    decay, alone = (dtype(0.1), kind(weight_decay=0.0)) if kind.decays_gradient else (dtype(0), optimizer)
    for step in range(3):
        optimizer.update(x, grad.copy(), ours, step, step + 1, proximal=Proximal(anchor, 0.3, mean, 0.75))
        felt = plain + decay * y + dtype(0.3) * (y - anchor)
        alone.update(y, felt, theirs, step, step + 1)
        z = dtype(0.75) * z + dtype(0.25) * y
    assert x.tobytes() == y.tobytes()
    assert mean.tobytes() == z.tobytes()


@every_kind
def test_a_rate_may_depend_on_the_step(kind: type[Optimizer]) -> None:
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.1 if step < 3 else 0.0

    first = descend(kind(rate=rate), np.float64, 3)
    assert sorted(set(asked)) == [0, 1, 2], "also of the step before, by those that correct their momentum"
    assert first.tobytes() == descend(kind(rate=0.1), np.float64, 3).tobytes()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.decays_gradient])
def test_weight_decay_is_part_of_the_gradient(kind: type[Optimizer]) -> None:
    optimizer, plain = kind(weight_decay=0.5), kind()
    x, y = np.full(5, 2.0), np.full(5, 2.0)
    optimizer.update(x, np.ones(5), optimizer.init(x), 0, 1)
    plain.update(y, np.ones(5) + 0.5 * y, plain.init(y), 0, 1)
    assert x.tobytes() == y.tobytes()


def test_decoupled_decay_is_of_what_was_seen_and_no_part_of_the_moments() -> None:
    plain, decaying = ls.Adam(0.1), ls.AdamW(0.1, weight_decay=0.5)
    x, y, seen = np.full(5, 2.0), np.full(5, 2.0), np.full(5, 3.0)
    moments = plain.init(x), decaying.init(y)
    plain.update(x, np.ones(5), moments[0], 0, 1)
    decaying.update(y, np.ones(5), moments[1], 0, 1, at=seen, rules=ops.exact)
    assert np.abs(y - (x - 0.1 * 0.5 * 3.0)).max() < 1e-15
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*moments, strict=True))
    without = ls.AdamW(0.1, weight_decay=0.0)
    assert descend(without, np.float32, 9).tobytes() == descend(plain, np.float32, 9).tobytes()


@every_kind
def test_numbers_are_checked(kind: type[Optimizer]) -> None:
    for field in fields(kind):
        if "float" not in str(field.type) and field.type != "Rate":
            continue
        with pytest.raises(ValueError, match=f"^{field.name} must be at least 0 and finite, got -1.0$"):
            kind(**{field.name: -1.0})
        with pytest.raises(ValueError, match=f"^{field.name} must be at least 0 and finite, got nan$"):
            kind(**{field.name: float("nan")})
        with pytest.raises(TypeError, match=f"^{field.name} must be a number, got '0.1'$"):
            kind(**{field.name: "0.1"})


@every_kind
def test_it_is_a_value(kind: type[Optimizer]) -> None:
    optimizer = kind(rate=0.25)
    assert repr(optimizer) == f"{kind.__name__}(rate=0.25)"
    assert eval(repr(optimizer), vars(ls).copy()) == optimizer
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer


@every_kind
def test_scaling_scales_the_rate_alone(kind: type[Optimizer]) -> None:
    assert kind(rate=0.25).scaled(4) == kind(rate=1.0)
    assert kind(rate=ls.schedules.Cosine(0.25)).scaled(4) == kind(
        rate=ls.schedules.Scaled(ls.schedules.Cosine(0.25), 4)
    )
