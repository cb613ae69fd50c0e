"""A probe of a cluster whose prices are known finds them: the simulator's own."""

from __future__ import annotations

from typing import Any

import pytest

import loosestep as ls
from loosestep.planner.probing import fit
from loosestep.planner.probing.measure import probe
from loosestep.transports.simulated.probe import Measurement

CLUSTER: dict[str, Any] = {"step_time": 0.02, "latency": 0.001, "bandwidth": 1e8}
PRICED = ls.Simulated(
    4,
    **CLUSTER,
    center="shards",
    prices=ls.Prices(send=5e-5, receive=5e-5, turn=6e-4, contention=0.2, inbound=1e8),
)


def test_a_probe_finds_the_prices_of_a_cluster() -> None:
    found = probe(PRICED, seconds=0.5)
    assert (found.n, found.hosts, found.center) == (4, (1, 1, 1, 1), "shards")
    assert found.latency == pytest.approx(0.001, rel=0.01)
    assert found.bandwidth == pytest.approx(1e8, rel=0.01)
    assert found.step_time == pytest.approx(0.02, rel=1e-6)
    assert found.prices.turn == pytest.approx(6e-4, rel=0.05)
    assert found.prices.contention == pytest.approx(0.2, rel=0.05)
    assert found.prices.send == pytest.approx(5e-5, rel=0.05)
    assert found.prices.inbound == pytest.approx(1e8, rel=0.05)
    like = ls.Simulated.like(found)
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(5), ls.EASGD(5), ls.CDSGD()):
        for parameters in (256, 250_000):
            real, seen = (ls.predict(strategy, parameters, on, steps=10).seconds for on in (PRICED, like))
            assert seen == pytest.approx(real, rel=0.02), (strategy, parameters)


def test_hosts_of_several_workers_are_measured_between_and_within() -> None:
    on = ls.Simulated(4, **CLUSTER, hosts=(2, 2), host_latency=1e-5, host_bandwidth=1e9)
    found = probe(on, seconds=0.3)
    assert (found.hosts, found.latency) == ((2, 2), pytest.approx(0.001, rel=0.01))
    assert found.host_latency == pytest.approx(1e-5, rel=0.01)
    assert found.host_bandwidth == pytest.approx(1e9, rel=0.1)


def test_one_worker_has_steps_and_no_links() -> None:
    found = probe(ls.Simulated(1, step_time=0.5, stragglers=ls.stragglers.LogNormal(0.3)), seconds=0.1)
    assert (found.latency, found.measured) == (0.0, ())
    assert found.step_time == pytest.approx(0.5, rel=0.1)
    assert len(found.steps[0]) == fit.KEPT


def test_a_sum_of_messages_one_after_the_other_tells_of_no_exchange() -> None:
    links = fit.Links(1e-6, 1e3)  # so narrow that 64 workers send one message after the other
    each = Measurement(fit.AVERAGE, 1 << 20, 63, 1.0, 0.0, 3)
    assert fit.Sent.of_average(each, 64, links) == []
    assert fit.Sent.of_average(each, 2, links) == [fit.Sent(63, 1 << 20, 1.0)]


def test_equally_frequent_seconds_have_the_mean_of_all() -> None:
    seconds = [float(each**2) for each in range(4 * fit.KEPT)]
    kept = fit.alike(seconds)
    assert len(kept) == fit.KEPT
    assert sum(kept) / len(kept) == pytest.approx(sum(seconds) / len(seconds), rel=1e-4)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="on must be a Transport, got 3"):
        probe(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seconds must be above 0"):
        probe(PRICED, seconds=0)
    with pytest.raises(TypeError, match="step must be a function, got 2"):
        probe(PRICED, step=2)  # type: ignore[arg-type]
