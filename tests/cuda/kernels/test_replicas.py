"""Many replicas in one pass have the bits of single ops."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.emulated.emulation import emulate
from tests.cuda.making import KINDS, buffers, each_kind
from tests.looped import looped

from loosestep import ops

MOST = 64
lengths = looped("n", [0, 1, 3, 4, 17, 1000])
offsets = looped("offset", [0, 1])


def addresses(given: list[np.ndarray]) -> np.ndarray:
    """The kernel's argument, by value."""
    table = np.zeros((), [("of", np.uint64, MOST)])
    table["of"][: len(given)] = [x.ctypes.data for x in given]
    return table[()]


def packs(n: int, kind: str, offset: int) -> np.uint64:
    return np.uint64(0 if offset else n * np.dtype(KINDS[kind]).itemsize // 16)


@each_kind
@lengths
@offsets
@pytest.mark.parametrize("many", [1, 8, 11, 64])
def test_elastic_all_is_elastic_one_after_another(kind: str, n: int, offset: int, many: int) -> None:
    *replicas, center = buffers(many + 1, n, kind, offset)
    wanted = [x.copy() for x in [*replicas, center]]
    for x in wanted[:-1]:
        ops.elastic(x, wanted[-1], 0.3)
    given = [addresses(replicas), np.uint32(many), center, np.uint64(n), packs(n, kind, offset), KINDS[kind](0.3)]
    emulate("replicas").launch(f"elastic_all<{kind}>", (2,), (64,), given)
    for got, want in zip([*replicas, center], wanted, strict=True):
        assert got.tobytes() == want.tobytes()


@each_kind
@lengths
@offsets
@pytest.mark.parametrize(("many", "room"), [(2, 4), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16)])
def test_mix_is_a_weighted_sum_for_each(kind: str, n: int, offset: int, many: int, room: int) -> None:
    replicas = buffers(many, n, kind, offset)
    weights = np.random.default_rng(many).random((many, many)).astype(KINDS[kind])
    wanted = [np.empty_like(x) for x in replicas]
    for out, row in zip(wanted, weights, strict=True):
        ops.weighted_sum(replicas, row.tolist(), out)
    given = [addresses(replicas), np.uint32(many), weights, np.uint64(n), packs(n, kind, offset)]
    emulate("replicas").launch(f"mix<{kind}, {room}>", (2,), (64,), given)
    for got, want in zip(replicas, wanted, strict=True):
        assert got.tobytes() == want.tobytes()
