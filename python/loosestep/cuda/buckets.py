"""Tensors that lie anywhere on a card, and the flat bucket that a collective sees: one launch for all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from loosestep import _core
from loosestep.cuda.arrays import Buffer, check_apart, check_disjoint, seen
from loosestep.cuda.elementwise import C_TYPES, rule_of, signature
from loosestep.cuda.launch import THREADS, addresses, by_value, launch
from loosestep.cuda.memory import address, sent_for_all, structure

PIECE = 8192
"""Elements of a tensor that a thread block does at a time."""
TENSOR = np.dtype([("address", np.uint64), ("length", np.uint64), ("offset", np.uint64)])


class Bucket:
    """Tensors, one behind the other in a bucket; their table lies on the card, so a call sends nothing there.

    tensors: contiguous, of one type and on one card; none overlaps another. They are held, never copied.

    `gather(bucket, n)` writes bucket = x / n, `scatter(bucket, n)` writes x = bucket / n, both with a cast where
    the types differ (one of them is float32 then), and `update` steps the tensors where they lie: what else would
    scatter a mean of gradients and then read it again.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.tensors = [seen("Bucket", f"tensors[{i}]", each, written=True) for i, each in enumerate(tensors)]
        if not self.tensors:
            raise ValueError("Bucket: tensors must hold at least 1 array, got 0")
        self.like = self.tensors[0]
        self.check()
        held = sorted((each.address, each.end) for each in self.tensors if each.size)
        self.begins, self.ends = [begin for begin, _ in held], [end for _, end in held]
        sizes = [each.size for each in self.tensors]
        self.size = sum(sizes)
        self.pieces = sum(-(-size // PIECE) for size in sizes)
        self.table = sent_for_all(self.like.place, listed(self.tensors))

    def check(self) -> None:
        """One type, one card, no overlaps."""
        for i, each in enumerate(self.tensors):
            if (each.dtype, each.device) != (self.like.dtype, self.like.device):
                raise TypeError(
                    f"Bucket: tensors[{i}] must be {self.like.dtype} on card {self.like.device} like the first, "
                    f"got {each.dtype} on card {each.device}"
                )
        names = [f"tensors[{i}]" for i in range(len(self.tensors))]
        check_disjoint("Bucket", names, self.tensors)

    def gather(self, bucket: Any, divisor: float = 1.0) -> None:
        """bucket = x / divisor for every tensor x, in its place."""
        flat = self.flat("gather", bucket, written=True)
        self.move("gather", self.like.dtype, flat, flat.dtype, divisor)

    def scatter(self, bucket: Any, divisor: float = 1.0) -> None:
        """x = its part of the bucket / divisor, for every tensor x."""
        flat = self.flat("scatter", bucket, written=False)
        self.move("scatter", flat.dtype, flat, self.like.dtype, divisor)

    def move(self, way: str, source: str, flat: Buffer, target: str, divisor: float) -> None:
        """The quotient is made in what is written: in float32 where that has two bytes."""
        if source != target and "float32" not in (source, target):
            raise TypeError(f"{way}: of two types one must be float32, got {source} and {target}")
        number = structure(("float64" if target == "float64" else "float32", float(divisor)))
        kernel = f"{way}<{C_TYPES[source]}, {C_TYPES[target]}>"
        self.launch(kernel, [self.passed(), flat.address, number])

    def update(self, op: str, bucket: Any, state: Sequence[Any], scalars: Sequence[float], divisor: float) -> None:
        """`op(x, ..., g, ..., *scalars)` for every tensor x, with g = the bucket / divisor.

        op: a rule that writes x and reads g, as sgd. state: its other buffers, in its order, flat
        like the bucket. scalars: as the op takes them. Arithmetic is that of the tensors' type, float32 where that
        has two bytes.
        """
        names, count, written = signature(op)
        if not is_step(names, count, written):
            raise ValueError(
                f"update: op must write x and read g, as sgd, got {op!r} of {', '.join(names[:count])}"
            )
        flat = self.state(op, names[1:count], written >> 1, bucket, state)
        kind = "float64" if self.like.dtype == "float64" else "float32"
        fields = by_value(_core.rules.fields(op, kind == "float64", tuple(scalars)))
        given = [
            fields,
            self.passed(),
            addresses([each.address for each in flat]),
            structure((kind, float(divisor))),
        ]
        self.launch(f"update<{rule_of(op)}, {C_TYPES[self.like.dtype]}>", given)

    def state(
        self, op: str, names: Sequence[str], written: int, bucket: Any, state: Sequence[Any]
    ) -> list[Buffer]:
        """The bucket as g, and what the optimizer keeps."""
        wanted = [name for name in names if name != "g"]
        if len(state) != len(wanted):
            raise ValueError(f"update: state must be {wanted} for {op}, got {len(state)} buffers")
        given = {"g": bucket, **dict(zip(wanted, state, strict=True))}
        flat = [self.flat(name, given[name], written=bool(written >> i & 1), like=self.like.dtype)
                for i, name in enumerate(names)]  # fmt: skip
        check_apart("update", names, flat, written)
        return flat

    def flat(self, name: str, given: Any, *, written: bool, like: str = "") -> Buffer:
        """A buffer as long as all tensors together, on their card."""
        found = seen("Bucket", name, given, written=written)
        if found.size != self.size or found.device != self.like.device or like not in ("", found.dtype):
            want = f"{self.size} {like} elements on card {self.like.device}".replace("  ", " ")
            got = f"{found.size} of {found.dtype} on card {found.device}"
            raise ValueError(f"Bucket: {name} must have {want}, got {got}")
        self.check_beside(name, found)
        return found

    def check_beside(self, name: str, flat: Buffer) -> None:
        """It overlaps no tensor: of those that begin before its end, the last ends before it begins."""
        i = bisect_left(self.begins, flat.end) - 1
        if flat.size and i >= 0 and self.ends[i] > flat.address:
            raise ValueError(f"Bucket: {name} and the tensors must not overlap")

    def passed(self) -> Any:
        """The table, as a kernel's argument."""
        at = address(self.table)
        first = at + len(self.tensors) * TENSOR.itemsize
        return structure(("u8", at), ("u8", first), ("u8", len(self.tensors)))

    def launch(self, kernel: str, arguments: Sequence[Any]) -> None:
        """A thread block for every piece."""
        if self.pieces:
            launch("bucket", kernel, self.like.place, (self.pieces,), (THREADS,), arguments)


def is_step(names: Sequence[str], count: int, written: int) -> bool:
    """Whether an op moves x by a gradient g that it only reads."""
    buffers = names[:count]
    return buffers[0] == "x" and bool(written & 1) and "g" in buffers and not written >> buffers.index("g") & 1


def listed(tensors: Sequence[Buffer]) -> Any:
    """Address, length and offset of each, then where each one's pieces begin."""
    sizes = [each.size for each in tensors]
    starts = np.cumsum([0, *sizes])[:-1]
    rows = np.array([(x.address, x.size, at) for x, at in zip(tensors, starts, strict=True)], TENSOR)
    first = np.cumsum([0, *(-(-size // PIECE) for size in sizes)]).astype(np.uint64)
    return np.concatenate([rows.view(np.uint64), first])
