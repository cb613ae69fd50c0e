"""Queues by key, of which only those that hold something exist."""

from __future__ import annotations

from collections import defaultdict, deque

import pytest

from loosestep.transports.keyed_queues import pop


def test_the_oldest_comes_first_and_an_empty_queue_is_dropped() -> None:
    queues: defaultdict[str, deque[int]] = defaultdict(deque)
    queues["a"].extend([1, 2])
    queues["b"].append(3)
    assert [pop(queues, "a"), pop(queues, "b")] == [1, 3]
    assert list(queues) == ["a"]
    assert pop(queues, "a") == 2
    assert not queues, "tags are never used again, so nothing may stay behind"


def test_nothing_comes_from_an_empty_queue() -> None:
    with pytest.raises(KeyError):
        pop({}, "a")
