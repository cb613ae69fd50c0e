"""Tensors that lie anywhere on a card, and the flat bucket that a collective sees: one launch for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loosestep import _core
from loosestep.cuda.arrays import Buffer, check_apart, seen
from loosestep.cuda.elementwise import C_TYPES, rule_of
from loosestep.cuda.launching import THREADS, by_value, launch
from loosestep.cuda.memory import address, sent, structure

PIECE = 8192
"""Elements of a tensor that a thread block does at a time."""
TENSOR = np.dtype([("address", np.uint64), ("length", np.uint64), ("offset", np.uint64)])
RULES = ("sgd", "momentum", "nesterov", "adam")


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
        sizes = [each.size for each in self.tensors]
        self.size = sum(sizes)
        self.pieces = sum(-(-size // PIECE) for size in sizes)
        self.table = sent(self.like.place, listed(self.tensors))

    def check(self) -> None:
        """One type, one card, no overlaps."""
        for i, each in enumerate(self.tensors):
            if (each.dtype, each.device) != (self.like.dtype, self.like.device):
                raise TypeError(
                    f"Bucket: tensors[{i}] must be {self.like.dtype} on card {self.like.device} like the first, "
                    f"got {each.dtype} on card {each.device}"
                )
        names = [f"tensors[{i}]" for i in range(len(self.tensors))]
        check_apart("Bucket", names, self.tensors, (1 << len(names)) - 1)

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
        """`op(x, *state, g, *scalars)` for every tensor x, with g = the bucket / divisor.

        op: sgd, momentum, nesterov or adam. state: its buffers between x and g, flat like the bucket. scalars: as
        the op takes them.
        """
        if op not in RULES:
            raise ValueError(f"update: op must be one of {', '.join(RULES)}, got {op!r}")
        names, count, _ = _core.rules.signature(op)
        kept = self.kept(names[1 : count - 1], state)
        flat = self.flat("update", bucket, written=False, like=self.like.dtype)
        kind = C_TYPES[flat.dtype]
        fields = by_value(_core.rules.fields(op, flat.dtype == "float64", tuple(scalars)))
        types = ", ".join([kind] * (len(kept) + 1))
        given = [fields, self.passed(), flat.address, structure((flat.dtype, float(divisor)))]
        kernel = f"update<{rule_of(op)}<{kind}>, {types}>"
        self.launch(kernel, [*given, *(each.address for each in kept)])

    def kept(self, names: Sequence[str], state: Sequence[Any]) -> list[Buffer]:
        """What the optimizer keeps."""
        if len(state) != len(names):
            raise ValueError(f"update: state must be {list(names)}, got {len(state)} buffers")
        given = zip(names, state, strict=True)
        return [self.flat(name, each, written=True, like=self.like.dtype) for name, each in given]

    def flat(self, name: str, given: Any, *, written: bool, like: str = "") -> Buffer:
        """A buffer as long as all tensors together, on their card."""
        found = seen("Bucket", name, given, written=written)
        if found.size != self.size or found.device != self.like.device or like not in ("", found.dtype):
            want = f"{self.size} {like} elements on card {self.like.device}".replace("  ", " ")
            got = f"{found.size} of {found.dtype} on card {found.device}"
            raise ValueError(f"Bucket: {name} must have {want}, got {got}")
        return found

    def passed(self) -> Any:
        """The table, as a kernel's argument."""
        at = address(self.table)
        first = at + len(self.tensors) * TENSOR.itemsize
        return structure(("u8", at), ("u8", first), ("u8", len(self.tensors)))

    def launch(self, kernel: str, arguments: Sequence[Any]) -> None:
        """A thread block for every piece."""
        if self.pieces:
            launch("bucket", kernel, self.like.place, (self.pieces,), (THREADS,), arguments)


def listed(tensors: Sequence[Buffer]) -> Any:
    """Address, length and offset of each, then where each one's pieces begin."""
    sizes = [each.size for each in tensors]
    starts = np.cumsum([0, *sizes])[:-1]
    rows = np.array([(x.address, x.size, at) for x, at in zip(tensors, starts, strict=True)], TENSOR)
    first = np.cumsum([0, *(-(-size // PIECE) for size in sizes)]).astype(np.uint64)
    return np.concatenate([rows.view(np.uint64), first])
