"""A loader that a measurement iterates several times: an iterable, or a function that returns one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Loader = Iterable[Any] | Callable[[], Iterable[Any]]


class Source:
    """Opens the loader anew for each run.

    Raises TypeError for what cannot be iterated twice: an iterator, such as a generator.
    """

    def __init__(self, loader: Loader, opens: Callable[[], Iterator[Any]] | None = None) -> None:
        self.loader = loader
        self.opens = opens
        if not isinstance(loader, Iterable) and not callable(loader):
            raise TypeError(f"loader must be an iterable, or a function that returns one, got {loader!r}")
        if isinstance(loader, Iterator):
            raise TypeError(
                f"loader must be iterated several times, and {type(loader).__name__} is an iterator that ends "
                "once: give a function that returns a new one"
            )

    def open(self) -> Iterator[Any]:
        """Return an iterator at the loader's beginning."""
        if self.opens is not None:
            return self.opens()
        loader: Any = self.loader
        return iter(loader if isinstance(loader, Iterable) else loader())

    @property
    def workers(self) -> int | None:
        """How many workers prepare ahead of the step, as a DataLoader says; None where it does not."""
        found = getattr(self.loader, "num_workers", None)
        return found if isinstance(found, int) else None

    @property
    def ahead(self) -> int:
        """How many batches the loader's workers prepare ahead of the step, 0 where it does not say."""
        each = getattr(self.loader, "prefetch_factor", None)
        return (self.workers or 0) * (each if isinstance(each, int) else 0)


def samples_of(batch: Any) -> int:
    """Return the rows of a batch: the length of its first part that has one; 1 where nothing has."""
    if isinstance(batch, Mapping):
        return samples_of(next(iter(batch.values()), None))
    if isinstance(batch, (list, tuple)) and batch and hasattr(batch[0], "__len__"):
        return samples_of(batch[0]) if not isinstance(batch[0], (str, bytes)) else len(batch)
    if getattr(batch, "shape", None) == ():
        return 1
    return len(batch) if hasattr(batch, "__len__") else 1


def synchronize() -> None:
    """Wait for what torch has queued on a GPU, if the loop uses one."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
