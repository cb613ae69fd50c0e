"""The heartbeat between hosts: each learns where the others listen, and not being let through is an error."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.clock import Clock

from loosestep.foundation.errors import TimedOut
from loosestep.transports.processes import heartbeat
from loosestep.transports.processes.heartbeat import FIRST_BEAT, UdpHeartbeat


class Pulse:
    """The core's heartbeat, without a socket."""

    def __init__(self, rank: int, size: int, local: bool) -> None:
        self.key, self.port, self.local = bytes([rank] * 16), 4000 + rank, local
        self.reached: list[Any] = []
        self.ages: dict[int, float] = {}
        self.closed = False

    @staticmethod
    def addresses() -> list[str]:
        return ["10.0.0.7", "10.1.0.7"]

    def reach(self, key: bytes, addresses: list[str], port: int) -> None:
        self.reached.append((key, addresses, port))

    def age(self, rank: int) -> float:
        return self.ages.get(rank, inf)

    def close(self) -> None:
        self.closed = True


class Calls:
    """Rank 0's, among three ranks that have told where they are."""

    rank = 0

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], Any]:
        others = [[bytes([rank] * 16).hex(), [f"10.0.0.{rank}"], 4000 + rank] for rank in (1, 2)]
        return lambda: [mine(), *others]

    def until(self, what: str, ready: Callable[[], bool]) -> None:
        while not ready():
            self.clock.now += 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    monkeypatch.setattr(heartbeat, "_core", SimpleNamespace(Pulse=Pulse))
    return clock


def made(local: bool = False) -> Any:
    return UdpHeartbeat(SimpleNamespace(rank=0, size=3, local=local))  # type: ignore[arg-type]


def test_it_is_sent_to_the_others_under_their_keys(clock: Clock) -> None:
    one = made()
    one.pulse.ages = {1: 0.0, 2: 0.5}
    one.open(Calls(clock), [1, 2])
    assert one.pulse.reached == [(bytes([r] * 16), [f"10.0.0.{r}"], 4000 + r) for r in (1, 2)]
    assert one.addresses == ["10.0.0.7", "10.1.0.7"]
    assert made(local=True).addresses == ["127.0.0.1"]


def test_one_that_is_not_let_through_is_named_with_its_address(clock: Clock) -> None:
    one = made()
    one.pulse.ages = {1: 0.0}
    with pytest.raises(TimedOut, match=r"first heartbeats for one of worker 2 by UDP \(it is at 10.0.0.2\)$"):
        one.open(Calls(clock), [1, 2])
    assert clock.now > 1000 + FIRST_BEAT


def test_when_a_rank_was_heard(clock: Clock) -> None:
    one = made()
    one.pulse.ages = {1: 2.5}
    assert one.last_heard(1) == 1000 - 2.5
    assert one.last_heard(2) == -inf
    one.close()
    assert one.pulse.closed
