"""What imaginary workers pay: closed forms, to 1e-9."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover
from tests.contract.scripted import Ask, Script

import loosestep as ls
from loosestep.requests import AllReduce, Exchange, Fetch, Gradient, Push, Request, Sleep, Start, Wait
from loosestep.requests.worker import Worker
from loosestep.transports.simulated import session as simulated
from loosestep.transports.simulated import stragglers
from loosestep.transports.simulated.stragglers import Stragglers

LATENCY, BANDWIDTH = 3e-5, 2e8
close = pytest.approx


def price(script: Script, n: int, size: int = 64, *, marching: bool = False, **network: Any) -> ls.Result:
    """A run of one round in which only communication takes time."""
    network = {"latency": LATENCY, "bandwidth": BANDWIDTH, "step_time": 0.0, **network}
    return ls.run(
        Ask(script, marching),
        lambda x, batch: np.zeros_like(x),
        np.zeros(size),
        lambda rank, size: iter([0.0]),
        on=ls.Simulated(n, **network),
    )


def ends(result: ls.Result) -> list[float]:
    """When each worker was through: all its time was communication."""
    return [worker.waiting for worker in result.workers]


def table(n: int, low: float, high: float, seed: int) -> Any:
    return np.random.default_rng(seed).uniform(low, high, (n, n)).tolist()


# --- allreduce ---------------------------------------------------------------------------------------------


def allreduce(n: int, size: int, latency: float) -> ls.Result:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params)

    result = price(script, n, size=size, latency=latency)
    assert ends(result) == close([result.seconds] * n, rel=1e-9, abs=0)
    return result


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 16, 32, 64, 65, 96, 128])
def test_an_allreduce_of_few_bytes_takes_one_latency_and_whole_vectors(n: int) -> None:
    result, nbytes = allreduce(n, 15 * n, latency=1.0), 15 * n * 8
    assert result.seconds == close((n > 1) * 1.0 + (n - 1) * nbytes / BANDWIDTH, rel=1e-9, abs=0)
    assert (result.bytes_sent, result.messages) == ((n - 1) * nbytes, n - 1)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 16, 32, 64, 65, 96, 128])
def test_an_allreduce_of_more_takes_two_latencies_and_the_bytes_of_a_ring(n: int) -> None:
    result, nbytes = allreduce(n, 400 * n, latency=LATENCY), 400 * n * 8
    assert result.seconds == close((n > 1) * 2 * LATENCY + 2 * (n - 1) / n * nbytes / BANDWIDTH, rel=1e-9, abs=0)
    assert (result.bytes_sent, result.messages) == (2 * (n - 1) / n * nbytes, 2 * (n - 1))


@pytest.mark.parametrize("n", [16, 32, 64, 65, 96, 128])
def test_an_allreduce_of_many_on_narrow_links_waits_for_every_message(n: int) -> None:
    result, nbytes = allreduce(n, 400 * n, latency=1e-7), 400 * n * 8
    wanted = 2 * (n - 1) * 1e-7 + 2 * (n - 1) / n * nbytes / BANDWIDTH
    assert result.seconds == close(wanted, rel=1e-9, abs=0)
    assert (result.bytes_sent, result.messages) == (2 * (n - 1) / n * nbytes, 2 * (n - 1))


def both_forms(script: Any, n: int, monkeypatch: pytest.MonkeyPatch, **network: Any) -> list[ls.Result]:
    results = []
    for above in (0, 10**6):
        monkeypatch.setattr(simulated, "CLOSED_FORM_ABOVE", above)
        results.append(price(script, n, **network))
    return results


@pytest.mark.parametrize("n", [2, 3, 5, 8, 17])
@pytest.mark.parametrize("links", ["alike", "narrow", "a table"])
@pytest.mark.parametrize("size", [1, 64, 1001])
def test_the_closed_form_is_the_events(n: int, links: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    delays = np.random.default_rng(n).uniform(0, 1e-3, n)
    network: dict[str, Any] = {"latency": 1e-9} if links == "narrow" else {}
    if links == "a table":
        network = {"latency": table(n, 1e-6, 1e-3, 1), "bandwidth": table(n, 1e6, 1e9, 2)}

    def script(worker: Worker) -> Iterator[Request]:
        worker.params[:] = worker.rank + 0.1
        yield Sleep(float(delays[worker.rank]))
        yield AllReduce(worker.params)

    closed, events = both_forms(script, n, monkeypatch, size=size, **network)
    assert ends(closed) == close(ends(events), rel=1e-9, abs=0)
    assert closed.params.tobytes() == events.params.tobytes()
    assert closed.bytes_sent == events.bytes_sent
    assert closed.messages == events.messages


@pytest.mark.parametrize("n", [2, 4, 8])
def test_both_forms_let_buckets_queue_at_a_workers_link(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without latency the links are never idle, so together the buckets cost what one costs."""

    def script(worker: Worker) -> Iterator[Request]:
        parts = [AllReduce(worker.params[place : place + 16]) for place in range(0, 64, 16)]
        for part in parts:
            yield Start(part)
        for part in parts:
            yield Wait(part)

    for result in both_forms(script, n, monkeypatch, latency=0.0):
        assert result.seconds == close(2 * (n - 1) / n * 64 * 8 / BANDWIDTH, rel=1e-9, abs=0)


@pytest.mark.parametrize("n", [4, 68])
@pytest.mark.parametrize("buckets", [1, 2, 4, 8])
def test_buckets_hide_all_but_the_last(n: int, buckets: int) -> None:
    """Communication shorter than a step: only the last bucket's is left after the gradient is complete."""
    size, step, bandwidth = 8 * n, 1e-3, 1e8
    whole = 2 * (n - 1) / n * size * 8 / bandwidth
    result = ls.run(
        ls.AllReduceSGD(bucket_bytes=size * 8 // buckets),
        lambda x, batch: np.zeros_like(x),
        np.zeros(size),
        lambda rank, n: iter([0.0] * 3),
        on=ls.Simulated(n, step_time=step, latency=0.0, bandwidth=bandwidth),
    )
    assert whole < step
    assert result.seconds == close(3 * (step + whole / buckets), rel=1e-9, abs=0)


# --- messages and the center -------------------------------------------------------------------------------


def test_a_message_takes_latency_and_bytes_and_a_worker_sends_one_at_a_time() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        if worker.rank == 0:
            yield Exchange(sends=[(1, np.ones(100)), (2, np.ones(50))])
        else:
            yield Exchange(recvs=[(0, np.empty(100 if worker.rank == 1 else 50))])

    first, second = 800 / BANDWIDTH, 400 / BANDWIDTH
    wanted = [first + second, first + LATENCY, first + second + LATENCY]
    assert ends(price(script, 3)) == close(wanted, rel=1e-9, abs=0)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_pushes_queue_at_the_centers_link(n: int) -> None:
    center = BANDWIDTH / 4

    def script(worker: Worker) -> Iterator[Request]:
        yield Push("axpy", (worker.shared("center", like=worker.params),), (np.ones(64),), (1.0,))

    result = price(script, n, center_bandwidth=center)
    assert ends(result) == close([512 / BANDWIDTH] * n, rel=1e-9, abs=0), "who has sent goes on"
    assert result.seconds == close(LATENCY + n * 512 / center, rel=1e-9, abs=0), "the end waits for arrivals"


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_pulls_queue_at_the_centers_link(n: int) -> None:
    center = BANDWIDTH / 4

    def script(worker: Worker) -> Iterator[Request]:
        yield Fetch(worker.shared("center", like=worker.params), into=worker.params)

    wanted = [2 * LATENCY + (rank + 1) * 512 / center for rank in range(n)]
    assert ends(price(script, n, center_bandwidth=center)) == close(wanted, rel=1e-9, abs=0)


def test_a_pull_sees_the_pushes_that_have_arrived() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        shared = worker.shared("center", like=np.zeros(64))
        if worker.rank == 0:
            yield Push("axpy", (shared,), (np.ones(64),), (1.0,))
        else:
            yield Sleep(early if worker.rank == 1 else late)
            yield Fetch(shared, into=worker.params)

    arrives = LATENCY + 512 / BANDWIDTH
    early, late = (arrives - LATENCY) * 0.99, (arrives - LATENCY) * 1.01
    before, after = (worker.params for worker in price(script, 3).workers[1:])
    assert (before == 0).all()
    assert (after == 1).all()


def test_a_bandwidth_without_limit_costs_nothing() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield AllReduce(worker.params)

    assert price(script, 4, bandwidth=float("inf"), latency=0.0).seconds == 0


@pytest.mark.parametrize(("begun", "wanted"), [(True, 5e-3 + 2e-3), (False, 2 * 5e-3 + 4e-3)])
def test_a_delay_holds_up_whoever_waits_and_not_whoever_started(begun: bool, wanted: float) -> None:
    """Each of the two exchanges of a reduction that is waited for; of one that was started, both at once."""

    def script(worker: Worker) -> Iterator[Request]:
        reduction = AllReduce(worker.params)
        yield Start(reduction) if begun else reduction
        yield Gradient()
        if begun:
            yield Wait(reduction)

    result = ls.run(
        Ask(script, marching=False),
        lambda x, batch: np.zeros_like(x),
        np.zeros(4),
        lambda rank, n: iter([0.0] * 2),
        on=ls.Delayed(ls.Simulated(3, step_time=2e-3, latency=0.0, bandwidth=float("inf")), seconds=5e-3),
    )
    assert result.seconds == close(wanted, rel=1e-9, abs=0)


# --- steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", discover(stragglers, Stragglers))
def test_steps_take_what_the_stragglers_say(kind: type[Stragglers]) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        for _ in range(9):
            yield Gradient()

    example = kind.example()
    result = ls.run(
        Ask(script),
        lambda x, batch: np.zeros_like(x),
        np.zeros(2),
        lambda rank, n: iter([0.0] * 10),
        on=ls.Simulated(3, step_time=2e-3, stragglers=example),
        seed=11,
    )
    speeds = [stragglers.Speed(example, rank, 11) for rank in range(3)]
    totals = [sum(speed.duration(step, 2e-3) for step in range(10)) for speed in speeds]
    assert result.seconds == close(max(totals), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("latency", -1.0, "latency must be at least 0 and finite, got -1.0"),
        ("bandwidth", 0.0, "bandwidth must be above 0 and finite, got 0.0"),
        ("bandwidth", [[1.0, 2.0]], "bandwidth must be a number or a 3 x 3 table, got shape (1, 2)"),
        ("latency", float("nan"), "latency must be at least 0 and finite, got nan"),
        ("step_time", -1.0, "step_time must be at least 0 and finite, got -1.0"),
        ("center_bandwidth", 0.0, "center_bandwidth must be above 0 and finite, got 0.0"),
        ("seed", -1, "seed must be at least 0, got -1"),
    ],
)
def test_a_bad_network_is_refused(option: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        ls.Simulated(3, **{option: value})
    assert str(caught.value) == sentence
