"""What a message costs besides latency and bandwidth, in numbers from the definition."""

from __future__ import annotations

from typing import Any

import pytest

from loosestep.transports.simulated.network import Network
from loosestep.transports.simulated.prices import Prices


def network(size: int = 3, hosts: Any = (), **prices: Any) -> Network:
    """A second of latency, and four bytes a second."""
    return Network(size, 1.0, 4.0, prices=Prices(**prices), hosts=hosts)


def test_nothing_costs_anything_unless_it_is_said() -> None:
    assert Prices().free
    assert not Prices(turn=1.0).free
    assert network().send(0, 1, 16, now=2.0) == (6.0, 7.0)
    assert network().received(3, 100.0) == 0.0


def test_a_message_waits_for_its_sender_and_for_the_link() -> None:
    one = network(header=4, send=0.5)
    assert one.send(0, 1, 12, now=0.0) == (4.5, 5.5)  # 0.5, then (12 + 4) / 4, then 1
    assert one.send(0, 2, 0, now=0.0) == (5.5, 6.5)  # injected at 1.0; the link is free at 4.5
    assert one.injected(0) == 1.0
    assert one.send(0, 2, 0, now=20.0) == (21.5, 22.5)


def test_the_receiver_pays_for_messages_and_bytes() -> None:
    assert network(receive=0.25, copy=0.5).received(2, 10) == 5.5


@pytest.mark.parametrize(
    ("nbytes", "together", "lag"),
    [(4, 1, 2.0), (8, 1, 2.0), (10, 1, 3.0), (12, 1, 4.0), (40, 1, 4.0), (8, 2, -0.5), (8, 9, -0.5)],
)
def test_lag_is_linear_between_sizes_and_holds_for_more_messages(nbytes: int, together: int, lag: float) -> None:
    one = network(lag=(((8, 2.0), (12, 4.0)), ((8, -0.5),)))
    assert one.send(0, 1, nbytes, 0.0, together)[1] == pytest.approx(nbytes / 4 + 1 + lag)


def test_a_message_is_never_there_before_it_has_left() -> None:
    assert network(lag=(((0, -5.0),),)).send(0, 1, 4, 0.0) == (1.0, 1.0)


def test_what_comes_together_shares_the_receivers_link() -> None:
    one = network(size=4, inbound=4.0)
    assert one.send(0, 3, 16, now=0.0)[1] == 5.0  # alone: as fast as its sender
    assert one.send(1, 3, 16, now=0.0)[1] == 9.0  # 32 bytes at 4 a second, and 1
    assert one.send(2, 3, 4, now=0.0)[1] == 4.0  # a short one is not held up by all of the long ones: 3 x 4 bytes
    assert one.send(0, 3, 16, now=20.0)[1] == 25.0, "what has come is forgotten"


def test_workers_of_a_host_share_its_link_to_others() -> None:
    one = network(size=4, hosts=((0, 1), (2, 3)))
    assert one.send(0, 2, 16, now=0.0)[0] == 4.0
    assert one.send(1, 3, 16, now=0.0)[0] == 8.0, "behind what the other worker of its host sends"
    assert one.send(2, 3, 16, now=0.0)[0] == 4.0, "within a host nothing is shared"
    apart = network(size=4)
    assert [apart.send(rank, 2, 16, now=0.0)[0] for rank in (0, 1)] == [4.0, 4.0]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"header": -1.0}, "header must be at least 0"),
        ({"inbound": 0.0}, "inbound must be above 0"),
        ({"lag": (((8, 1.0), (8, 2.0)),)}, "lag must be tables of pairs .* by growing bytes"),
        ({"lag": (((8, float("nan")),),)}, "lag must be finite"),
    ],
)
def test_bad_prices_are_refused(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Prices(**how)
