"""Wire formats: encode and decode 16 Mi float32, beside numpy's and torch's ways and the in-place limit.

The limit is the better of two hand-written in-place updates (ordinary and streaming stores), by bytes moved: a
format reads its values and writes its words, then the other way round. What keeps a few values is also given in
passes: how many in-place passes over the vector (one read, one write) take as long. Each is checked against what
the formula says before it is timed, and the bits are counted that encoding writes. At the end come the lines of
the table of docs/results/formats.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import loosestep as ls
from bench.harness import Contestant, Measured, Options, Row, measure
from loosestep import _core
from loosestep.codecs.base import Codec
from loosestep.foundation import buffers

try:
    import torch
except ImportError:
    torch = None

Maker = Callable[[Any, Any], Contestant]  # of values, and where they are decoded to
SHARE = 0.01
CHUNK, KEEP = 4096, 64


def ours(codec: Codec) -> Maker:
    def maker(x: Any, out: Any) -> Contestant:
        wire = buffers.zeros(codec.words(x.size), np.float64)

        def run() -> None:
            codec.encode(x, wire, (1,))
            codec.decode(wire, out)

        return run

    return maker


def numpy_sign(x: Any, out: Any) -> Contestant:
    def run() -> None:
        size = np.abs(x).mean()
        signs = np.packbits(np.signbit(x), bitorder="little")
        negative = np.unpackbits(signs, count=x.size, bitorder="little")
        np.subtract(size, 2 * size * negative, out=out)

    return run


def torch_sign(x: Any, out: Any) -> Contestant:
    """One byte a sign: torch packs no bits."""
    there, back = torch.from_numpy(x), torch.from_numpy(out)

    def run() -> None:
        size = there.abs().mean()
        signs = torch.where(there < 0, -1, 1).to(torch.int8)
        torch.mul(signs, size, out=back)

    return run


def numpy_half(x: Any, out: Any) -> Contestant:
    return lambda: np.copyto(out, x.astype(np.float16))


def torch_cast(kind: str) -> Maker:
    def maker(x: Any, out: Any) -> Contestant:
        there, back = torch.from_numpy(x), torch.from_numpy(out)
        return lambda: back.copy_(there.to(getattr(torch, kind)))

    return maker


def numpy_levels(x: Any, out: Any) -> Contestant:
    """QSGD of 127 levels with one length for all."""
    rng = np.random.default_rng(0)

    def run() -> None:
        length = np.linalg.norm(x)
        scaled = np.abs(x) * (127 / length) + rng.random(x.size, np.float32)
        codes = np.copysign(np.floor(scaled), x).astype(np.int8)
        np.multiply(codes, length / 127, out=out)

    return run


def torch_levels(x: Any, out: Any) -> Contestant:
    there, back = torch.from_numpy(x), torch.from_numpy(out)

    def run() -> None:
        length = there.norm()
        scaled = (there.abs() * (127 / length)).add_(torch.rand(there.shape)).floor_()
        codes = torch.copysign(scaled, there).to(torch.int8)
        torch.mul(codes, length / 127, out=back)

    return run


def numpy_chunked(x: Any, out: Any) -> Contestant:
    rows, back = x.reshape(-1, CHUNK), out.reshape(-1, CHUNK)

    def run() -> None:
        places = np.argpartition(np.abs(rows), -KEEP, axis=1)[:, -KEEP:].astype(np.uint16)
        values = np.take_along_axis(rows, places, axis=1)
        back.fill(0)
        np.put_along_axis(back, places, values, axis=1)

    return run


def torch_chunked(x: Any, out: Any) -> Contestant:
    rows, back = torch.from_numpy(x).reshape(-1, CHUNK), torch.from_numpy(out).reshape(-1, CHUNK)

    def run() -> None:
        _, places = rows.abs().topk(KEEP, dim=1, sorted=False)
        values = rows.gather(1, places)
        back.zero_().scatter_(1, places, values)

    return run


def numpy_largest(x: Any, out: Any) -> Contestant:
    keep = round(SHARE * x.size)

    def run() -> None:
        places = np.argpartition(np.abs(x), -keep)[-keep:]
        values = x[places]
        out.fill(0)
        out[places] = values

    return run


def torch_largest(x: Any, out: Any) -> Contestant:
    there, back = torch.from_numpy(x), torch.from_numpy(out)
    keep = round(SHARE * x.size)

    def run() -> None:
        _, places = there.abs().topk(keep, sorted=False)
        values = there[places]
        back.zero_()
        back[places] = values

    return run


CASES: dict[str, tuple[Codec, dict[str, Maker]]] = {
    "Sign": (ls.Sign(), {"numpy": numpy_sign, "torch": torch_sign}),
    "Float8": (ls.Float8(), {"torch": torch_cast("float8_e4m3fn")}),
    "Float16": (ls.Float16(), {"numpy": numpy_half, "torch": torch_cast("float16")}),
    "BFloat16": (ls.BFloat16(), {"torch": torch_cast("bfloat16")}),
    "E3M0": (ls.E3M0(), {}),
    "QSGD, 8 bits": (ls.QSGD(), {"numpy": numpy_levels, "torch": torch_levels}),
    "Bins": (ls.Bins(), {}),
    "ChunkedTopK": (ls.ChunkedTopK(KEEP, CHUNK), {"numpy": numpy_chunked, "torch": torch_chunked}),
    "ChunkedTopK, 4 bins": (ls.ChunkedTopK(KEEP, CHUNK, ls.Bins()), {}),
    "TopK, 1 %": (ls.TopK(SHARE), {"numpy": numpy_largest, "torch": torch_largest}),
    "RandomK, 1 %": (ls.RandomK(SHARE), {}),
    "PowerSGD": (ls.PowerSGD(), {}),
}


def check(codec: Codec) -> None:
    """What is decoded is as near as the format says."""
    x = np.random.default_rng(0).standard_normal(3 * CHUNK + 5).astype(np.float32)
    out = np.empty_like(x)
    ours(codec)(x, out)()
    lost = float(((out - x).astype(float) ** 2).sum() / (x.astype(float) ** 2).sum())
    assert lost <= codec.error(x.size) * 1.2, f"{codec}: {lost}"


def bits_written(codec: Codec, x: Any) -> int:
    """How many bits come out the same whatever the words held before: those that encoding writes."""
    words = codec.words(x.size)
    zeros, ones = np.zeros(words), np.full(words, -1, np.int64).view(np.float64)
    for wire in (zeros, ones):
        codec.encode(x, wire, (1,))
    left = zeros.view(np.uint64) ^ ones.view(np.uint64)
    return 64 * words - int.from_bytes(left.tobytes(), "little").bit_count()


def line(name: str, codec: Codec, bits: int, n: int, measured: Measured, limit: float) -> str:
    """Of the table: bits a value by the formula and as written, then each library's share of the limit and passes.

    limit: bytes a second.
    """
    moved, cells = 8 * n + codec.bits(n) / 4, []
    for library in ("loosestep", "numpy", "torch"):
        if library in measured.seconds:
            taken = measured.seconds[library].median
            cells.append(f"{moved / taken / limit:.2f}, {taken * limit / (8 * n):.2f}")
        else:
            cells.append("-")
    return f"| {name} | {codec.bits(n) / n:.3f} | {bits / n:.3f} | {' | '.join(cells)} |"


def present(makers: Mapping[str, Maker]) -> dict[str, Maker]:
    """Those whose library is installed."""
    return {name: make for name, make in makers.items() if torch is not None or not name.startswith("torch")}


def rows(options: Options) -> Iterator[Row]:
    n = (1 << 14) if options.smoke else (16 << 20)
    x, y, out = (buffers.zeros(n) for _ in range(3))
    x[:] = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    start = x.copy()
    update = _core.streams.update
    streams: dict[str, Contestant] = {
        "limit": lambda: update(x, y),
        "limit, streaming": lambda: update(x, y, streaming=True),
    }
    lines = []
    for name, (codec, rivals) in CASES.items():
        if options.only not in name:
            continue
        check(codec)
        x[:], y[:] = start, start
        bits = bits_written(codec, x)
        makers = {"loosestep": ours(codec), **present(rivals)}
        contestants = {library: make(x, out) for library, make in makers.items()}
        measured = measure(contestants | streams, options)
        moved = 2 * (x.nbytes + codec.bits(n) / 8) / 1e9
        amount = dict.fromkeys(contestants, moved) | dict.fromkeys(streams, 16 * n / 1e9)
        yield from measured.rows(
            "formats", name, threads=_core.threads(), n=n, amount=amount, unit="GB/s", limits=list(streams),
            bytes=8 * codec.words(n),
        )  # fmt: skip
        limit = 16 * n / min(measured.seconds[stream].median for stream in streams)
        lines.append(line(name, codec, bits, n, measured, limit))
    print("\n" + "\n".join(lines))
