"""Where there is not enough memory: an error that says for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def room(what: str) -> Iterator[None]:
    """Say of what there is more than memory holds."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"there is not enough memory for {what} ({error})") from error
