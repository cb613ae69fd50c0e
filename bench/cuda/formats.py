"""Wire formats on a GPU: encode and decode 64 Mi float32, values and words there.

The limit is the driver's copy within the GPU, by bytes moved. Encoding includes the wait for whether all values
were finite, which is a round trip to the GPU. What is decoded is checked against the CPU's first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import loosestep as ls
from bench.cuda.events import OnGpu
from bench.cuda.ops import copier
from bench.harness import Options, Row, measure
from loosestep.codecs.base import Codec
from loosestep.cuda import device
from loosestep.cuda.launch import cupy

CASES: dict[str, Codec] = {
    "Sign": ls.Sign(),
    "Float8": ls.Float8(),
    "Float16": ls.Float16(),
    "BFloat16": ls.BFloat16(),
    "E3M0": ls.E3M0(),
    "QSGD, 8 bits": ls.QSGD(),
}
SMOKE, SIZE, CHECKED = 4096, 1 << 26, 5003


def made(codec: Codec, n: int) -> tuple[Callable[[], None], Any]:
    """What is timed, and where it decodes to."""
    drawn = np.random.default_rng(0).standard_normal(n, np.float32)
    x, wire, out = (cupy().asarray(each) for each in (drawn, np.zeros(codec.words(n)), np.zeros_like(drawn)))

    def run() -> None:
        codec.encode(x, wire, (1,))
        codec.decode(wire, out)

    return run, out


def check(codec: Codec) -> None:
    """What is decoded has the CPU's bits."""
    x = np.random.default_rng(0).standard_normal(CHECKED, np.float32)
    wire, wanted = np.zeros(codec.words(CHECKED)), np.empty_like(x)
    codec.encode(x, wire, (1,))
    codec.decode(wire, wanted)
    run, out = made(codec, CHECKED)
    run()
    assert cupy().asnumpy(out).tobytes() == wanted.tobytes(), codec


def rows(options: Options) -> Iterator[Row]:
    print(f"on GPU 0, {device.first()}", file=sys.stderr)
    n = SMOKE if options.smoke else SIZE
    for name, codec in CASES.items():
        if options.only not in name:
            continue
        check(codec)
        measured = measure({"loosestep": OnGpu([made(codec, n)[0]]), "copy": copier(n)}, options)
        amount = {"loosestep": (8 * n + codec.bits(n) / 4) / 1e9, "copy": 8 * n / 1e9}
        yield from measured.rows(
            "formats on a GPU", name, threads=1, n=n, amount=amount, unit="GB/s", limits=["copy"]
        )
