"""A GPU's noise is the CPU's, bit for bit, wherever a buffer begins in the stream and in memory."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.emulated.emulation import emulate
from tests.cuda.making import KINDS, buffers, each_kind, structure
from tests.looped import looped

from loosestep import ops

RULES = {"Normal": ("normal", 1), "AddNormal": ("add_normal", 1), "Langevin": ("langevin", 2)}
SEED, STREAM, STEP = 2**64 - 3, 7, 2**32 - 1
NOISE = structure(("u8", SEED), ("u4", STREAM), ("u4", STEP))


@each_kind
@pytest.mark.parametrize("rule", RULES)
@looped("n", [0, 1, 4, 5, 1000])
@looped("start, offset", [(0, 0), (4, 0), (2**40 + 4, 0), (0, 1), (1, 0), (2**34 - 3, 1)])
def test_noise(kind: str, rule: str, n: int, start: int, offset: int) -> None:
    name, many = RULES[rule]
    given = buffers(many, n, kind, offset)
    scalars = [0.1, 0.3][-many:]
    wanted = [x.copy() for x in given]
    getattr(ops, name)(*wanted, *scalars, SEED, STREAM, STEP, start)
    types = ", ".join([kind, f"const {kind}"][:many])
    fields = structure(*[(KINDS[kind], each) for each in scalars])
    aligned = np.bool_(offset == 0 and start % 4 == 0)
    passed = [fields, NOISE, np.uint64(start), np.uint64(n), aligned, *given]
    emulate("noise").launch(f"noisy<{rule}<{kind}>, {types}>", (2,), (32,), passed)
    for got, want in zip(given, wanted, strict=True):
        assert got.tobytes() == want.tobytes()
