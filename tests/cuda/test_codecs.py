"""What is sent in place of numbers: signs, bytes, the largest; and what is left for the next message."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.emulation import emulate
from tests.cuda.making import KINDS, buffers, each_kind, each_order, structure

GROUP = 256
lengths = pytest.mark.parametrize("n", [1, 31, 32, 33, 256, 1000])


@each_kind
@each_order
@lengths
def test_signs(kind: str, n: int, backwards: bool) -> None:
    (x,) = buffers(1, n, kind)
    before, words, dtype = x.copy(), np.zeros(-(-n // 32), np.uint32), KINDS[kind]
    total = np.full(1, np.abs(x).sum(dtype=np.float64))
    given = [x, np.uint64(n), total, words]
    emulate("codecs").launch(f"take_signs<{kind}>", (2,), (64,), given, backwards=backwards)
    scale = dtype(total[0] / n)
    bits = np.packbits(before < 0, bitorder="little")
    assert words.tobytes()[: bits.size] == bits.tobytes()
    sent = np.full(n, np.nan, dtype)
    emulate("codecs").launch(f"from_signs<{kind}>", (2,), (64,), [words, np.uint64(n), scale, sent])
    assert sent.tobytes() == np.where(before < 0, -scale, scale).tobytes()
    assert x.tobytes() == (before - sent).tobytes()


@each_kind
@each_order
@lengths
def test_bytes(kind: str, n: int, backwards: bool) -> None:
    (x,) = buffers(1, n, kind)
    before, codes = x.copy(), np.full(n, 99, np.int8)
    scales = np.full(-(-n // GROUP), np.nan, KINDS[kind])
    given = [x, np.uint64(n), codes, scales]
    emulate("codecs").launch(f"take_bytes<{kind}>", (2,), (64,), given, backwards=backwards)
    padded = np.pad(before, (0, scales.size * GROUP - n)).reshape(-1, GROUP)
    want = np.abs(padded).max(axis=1) / KINDS[kind](127)
    assert scales.tobytes() == want.tobytes()
    assert codes.tobytes() == np.rint(padded / want[:, None]).reshape(-1)[:n].astype(np.int8).tobytes()
    assert np.abs(codes).max() == 127
    sent = np.full(n, np.nan, KINDS[kind])
    emulate("codecs").launch(f"from_bytes<{kind}>", (2,), (64,), [codes, scales, np.uint64(n), sent])
    assert x.tobytes() == (before - sent).tobytes()
    assert (np.abs(x) <= np.repeat(want, GROUP)[:n] * KINDS[kind](0.500001)).all()


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, 1e-45])
def test_bytes_of_what_has_no_scale(fill: float) -> None:
    x = np.full(GROUP, fill, np.float32)
    codes, scales = np.full(GROUP, 99, np.int8), np.zeros(1, np.float32)
    emulate("codecs").launch("take_bytes<float>", (1,), (32,), [x, np.uint64(GROUP), codes, scales])
    assert (codes == 0).all()


def largest(x: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest |x|, of equal ones the first, in the order of places."""
    return np.sort(np.argsort(-np.abs(x), kind="stable")[:k])


EACH_TWO = [(False, 0, False), (False, 1, True), (True, 0, True), (True, 1, False)]
"""Of equal, taken and backwards, every two in every combination."""


@pytest.mark.parametrize(("equal", "taken", "backwards"), EACH_TWO)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1000, 1), (1000, 999), (1000, 1000), (3000, 100), (2500, 1024)])
def test_the_largest(n: int, k: int, equal: bool, taken: int, backwards: bool) -> None:
    (x,) = buffers(1, n, "float")
    if equal:
        x[:] = np.random.default_rng(k).integers(-3, 4, n)
    before, want = x.copy(), largest(x, k)
    found, counts = np.array([structure(("u4", 0), ("u8", k))]), np.zeros(256, np.uint64)
    blocks, kernels, size = -(-n // 1024), emulate("top_k"), np.uint64(n)
    for shift in (24, 16, 8, 0):
        given = [x, size, found, np.uint32(shift), counts]
        kernels.launch("count_digit", (2,), (1024,), given, backwards=backwards)
        kernels.launch("choose_digit", (1,), (256,), [found, np.uint32(shift), counts])
    chosen, places, values = np.zeros((blocks, 2), np.uint64), np.full(k, 7**9, np.uint64), np.empty(k, np.float32)
    kernels.launch("count_chosen", (blocks,), (1024,), [x, size, found, chosen], backwards=backwards)
    kernels.launch("begin_at", (1,), (1024,), [chosen, np.uint64(blocks)], backwards=backwards)
    given = [x, size, found, chosen, np.uint32(taken), places, values]
    kernels.launch("take_chosen", (blocks,), (1024,), given, backwards=backwards)
    assert places.tolist() == want.tolist()
    assert values.tobytes() == before[want].tobytes()
    left = before.copy()
    if taken:
        left[want] = 0
    assert x.tobytes() == left.tobytes()
