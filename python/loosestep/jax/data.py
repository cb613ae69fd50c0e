"""Row numbers dealt to the workers of a JAX loop, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.data import dealt_rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shard(dealt_rows.Shard):
    """The same as arrays, which index those of numpy and JAX."""

    def __iter__(self) -> Iterator[Any]:
        return self.batches()


class SharedOut(dealt_rows.SharedOut):
    """The same as arrays, which index those of numpy and JAX."""

    def __iter__(self) -> Iterator[Any]:
        return self.batches()
