"""Queues in a dict; a queue is deleted when it becomes empty."""

from __future__ import annotations

from collections import deque
from typing import Any


def pop(queues: dict[Any, deque[Any]], key: Any) -> Any:
    """Return the oldest entry of a queue. An empty queue is dropped, since tags are never used again."""
    queue = queues[key]
    first = queue.popleft()
    if not queue:
        del queues[key]
    return first
