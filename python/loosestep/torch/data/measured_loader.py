"""A script's DataLoader that measures the loop over it, and ends the script when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from loosestep.data.stalls.opened_files import OpenedFiles
from loosestep.data.stalls.source import Source
from loosestep.data.stalls.watch import Watch


class Measured(BaseException):
    """Ends a script whose loop has been measured; no `except Exception` of the script's holds it up."""


class MeasuredLoader:
    """Stands in for the iteration of every DataLoader: the one that is chosen is watched, the others do as ever.

    number: which, in the order in which they are first iterated, from 0 on.
    options: of `loosestep.data.stalls.watch`; without files, those that Python opens are dropped.
    """

    def __init__(self, number: int, options: dict[str, Any]) -> None:
        self.number, self.options = number, dict(options)
        self.seen: list[Any] = []  # kept, for an address may be used again
        self.watched: Watch | None = None
        self.opening = False
        self.iterate = DataLoader.__iter__
        self.opened = OpenedFiles() if not self.options.get("files") else None
        if self.opened is not None:
            self.options["files"] = self.opened.paths

    @contextmanager
    def installed(self) -> Iterator[MeasuredLoader]:
        """Measure while this is open."""
        stand_in = self

        def __iter__(loader: Any) -> Iterator[Any]:  # noqa: N807 (it takes that one's place)
            return stand_in.iteration(loader)

        DataLoader.__iter__ = __iter__
        try:
            yield self
        finally:
            DataLoader.__iter__ = self.iterate
            if self.opened is not None:
                self.opened.close()

    def iteration(self, loader: Any) -> Iterator[Any]:
        """Return what a loop over a DataLoader iterates."""
        if self.opening or not self.is_chosen(loader):
            return self.original(loader)
        if self.watched is None:
            if self.opened is not None:
                loader.worker_init_fn = self.opened.in_worker(loader.worker_init_fn)
            self.watched = Watch(Source(loader, lambda: self.original(loader)), **self.options)
        return until_measured(iter(self.watched))

    def is_chosen(self, loader: Any) -> bool:
        """Return whether this is the loader to measure."""
        if all(loader is not other for other in self.seen):
            self.seen.append(loader)
        return len(self.seen) > self.number and loader is self.seen[self.number]

    def original(self, loader: Any) -> Iterator[Any]:
        """Return torch's own iterator."""
        self.opening = True
        try:
            found: Iterator[Any] = self.iterate(loader)
        finally:
            self.opening = False
        return found


def until_measured(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield the batches of a measurement, then end the script."""
    yield from batches
    raise Measured
