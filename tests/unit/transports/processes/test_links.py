"""The links between hosts, as rank 0 of three hosts comes to know them among others that are played."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
import pytest
from tests.unit.nodes import Node, nodes, turn
from tests.unit.values import Values

from loosestep.foundation.errors import Mismatch
from loosestep.lowering.requests import Script
from loosestep.requests import Barrier, Exchange
from loosestep.requests.links import Links
from loosestep.transports.processes import links, progress

HOSTS = ((0,), (1, 3), (2,))
FACTS = {"latency": "None", "bandwidth": "None"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Four processes on three hosts; rank 3 leads none."""
    made = nodes(4)
    clock = made[0].net.clock
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(links, "MEASURED", {})
    clock.meanwhile = lambda: turn(made[1:])
    return made


def say(world: list[Node], topic: str, *values: Any) -> None:
    for node, value in zip(world[1:], values, strict=True):
        node.queries.answer(topic, lambda _, value=value: value)


def pings(before: int, after: int) -> Iterator[Exchange]:
    """The messages of a leader, as `measured` makes them."""
    for nbytes, count in ((8, links.PINGS), *((size, links.TRIES) for size in links.SIZES)):
        content, room = np.zeros(nbytes, np.uint8), np.empty(nbytes, np.uint8)
        for _ in range(count):
            yield Exchange([(after, content)], [(before, room)])
            yield Exchange([(before, content)], [(after, room)])


def play(world: list[Node], seconds: dict[int, Values]) -> None:
    """Let the other leaders measure too, and say what they found."""
    for rank, ends in ((1, (0, 2)), (2, (1, 0))):
        world[rank].engine.start(Script(Barrier(), pings(*ends)), world[rank].worker)
    for nbytes, (first, second) in seconds.items():
        say(world, f"links {nbytes}", first, second, None)


def test_the_slowest_host_decides_and_all_know_it_for_the_next_run(world: list[Node]) -> None:
    calls = world[0].calls
    say(world, "links", *[{"facts": FACTS, "known": None}] * 3)
    play(world, {8: (2.0, 0.5), links.SIZES[0]: (2.0, 2.01), links.SIZES[1]: (3.0, 6.0)})
    found = links.agreed(calls, HOSTS, None)
    assert found == (2.0, links.SIZES[1] / 4.0)
    say(world, "links", *[{"facts": FACTS, "known": list(found)}] * 3)
    assert links.agreed(calls, HOSTS, None) == found, "nobody measures again"


def test_where_few_bytes_take_long_no_more_are_sent(world: list[Node]) -> None:
    say(world, "links", {"facts": FACTS, "known": [1.0, 1.0]}, *[{"facts": FACTS, "known": None}] * 2)
    play(world, {8: (1.0, 1.0), links.SIZES[0]: (1.5, 5.0)})
    assert links.agreed(world[0].calls, HOSTS, None) == (1.0, links.SIZES[0] / 4.0)


def test_what_is_said_is_not_measured(world: list[Node]) -> None:
    said = Links(0.5, inf)
    facts = {"latency": "0.5", "bandwidth": "inf"}
    say(world, "links", *[{"facts": facts, "known": None}] * 3)
    assert links.agreed(world[0].calls, HOSTS, said) == said


def test_all_must_say_the_same(world: list[Node]) -> None:
    say(world, "links", *[{"facts": FACTS, "known": None}] * 3)
    with pytest.raises(Mismatch, match="worker 1 has latency None, worker 0 has latency 0.5"):
        links.agreed(world[0].calls, HOSTS, Links(0.5, 1.0))


def test_what_cannot_be_links_is_refused() -> None:
    assert links.checked(None, None) is None
    assert links.checked(0.0, inf) == (0.0, inf)
    with pytest.raises(ValueError, match="latency must be at least 0 and finite, got -1"):
        links.checked(-1.0, 1.0)
    with pytest.raises(ValueError, match="bandwidth must be above 0 and finite, got 0"):
        links.checked(1.0, 0.0)
    with pytest.raises(ValueError, match="said together, or both are measured: got latency=1.0, bandwidth=None"):
        links.checked(1.0, None)
