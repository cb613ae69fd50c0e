"""A simulated cluster as a value: what it refuses, what is like a probe, and what is larger of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from loosestep.transports.simulated import Simulated
from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.probe import Probe
from loosestep.transports.simulated.stragglers import Constant, Measured
from loosestep.transports.simulated.transport import MOST

PRICES = Prices(send=1e-4, turn=5e-4)


def probe(**how: Any) -> Probe:
    given = {
        "n": 2, "hosts": (1, 1), "transport": "MPI()", "machine": "one", "latency": 0.005, "bandwidth": 1e7,
        "prices": PRICES, "center": "shards", "steps": ((0.01, 0.03), (0.02, 0.02)), **how,
    }  # fmt: skip
    return Probe(**given)


def test_a_cluster_is_like_its_probe() -> None:
    found = Simulated.like(probe())
    assert found == Simulated(
        2, step_time=0.02, latency=0.005, bandwidth=1e7, prices=PRICES, center="shards",
        stragglers=Measured(((0.5, 1.5), (1.0, 1.0))),
    )  # fmt: skip
    assert isinstance(Simulated.like(probe(steps=((0.02,), (0.02,)))).stragglers, Constant)
    assert Simulated.like(probe(n=2, hosts=(2,))).hosts is None, "all on one host: the links are its memory"


def test_hosts_of_several_workers_have_links_of_their_own() -> None:
    found = Simulated.like(probe(n=4, hosts=(2, 2), host_latency=1e-5, host_bandwidth=1e10, steps=((1.0,),) * 4))
    assert (found.hosts, found.host_latency, found.host_bandwidth) == ((2, 2), 1e-5, 1e10)


def test_a_larger_cluster_has_more_of_the_same() -> None:
    assert Simulated(4, latency=0.01).scaled(64) == Simulated(64, latency=0.01)
    assert Simulated(4, hosts=(3, 1)).scaled(9).hosts == (3, 1, 3, 1, 1)
    with pytest.raises(ValueError, match="one by one, in a table"):
        Simulated(2, latency=[[0.0, 1.0], [1.0, 0.0]]).scaled(4)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": MOST + 1}, "n must be at most .*, got 1000001"),
        ({"step_time": -1.0}, "step_time must be at least 0"),
        ({"hosts": (1, 2), "n": 2}, r"hosts=\(1, 2\) have 3 workers, but there are 2"),
        ({"center_bandwidth": 0.0}, "center_bandwidth must be above 0"),
        ({"center": "here"}, "center must be one of 'apart', 'shards', got 'here'"),
    ],
)
def test_bad_worlds_are_refused(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Simulated(**{"n": 2, **how})


def test_prices_are_no_number() -> None:
    with pytest.raises(TypeError, match="prices must be a Prices, got 3"):
        Simulated(2, prices=3)  # type: ignore[arg-type]
