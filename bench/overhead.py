"""What the machinery around the arithmetic costs: a request, a round, a simulated request.

The limit of a request is a bare generator pumped by a bare loop; that of a round is the same arithmetic in a
plain Python loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import numpy as np

import loosestep as ls
from bench.harness import Options, Row, measure
from loosestep.foundation import buffers
from loosestep.lowering.lowering import Lowering
from loosestep.requests import Barrier, Request, Update
from loosestep.requests.worker import Worker
from loosestep.transports.base import Task, drive

SIZE = 64  # parameters: small, so that the arithmetic does not hide what is measured


def rows(options: Options) -> Iterator[Row]:
    yield from requests(options)
    yield from rounds(options)
    yield from simulator(options)


def requests(options: Options) -> Iterator[Row]:
    """Requests that do nothing, through everything that `run` puts between a strategy and a transport."""
    count = 1_000 if options.smoke else 50_000
    for case, request in (("compute request", Update()), ("communication request", Barrier())):
        ours, limit = driver(request, count), bare(request, count)
        if ours() != count or limit() != count:
            raise AssertionError(f"{case}: not every request arrived")
        measured = measure({"loosestep": ours, "bare generator": limit}, options)
        yield from measured.rows(
            "overhead", case, threads=1, n=count, amount=count, unit="requests/s", limits=["bare generator"]
        )


def driver(request: Request, count: int) -> Callable[[], int]:
    """Pump `count` requests through lowering, meter and driver; returns how many were performed."""

    def pump() -> int:
        session = ls.Metered(ls.Serial()).open()
        worker = Worker(0, 1, buffers.zeros(SIZE), lambda name, like: session.share(0, name, like))
        native = session.native | {Update}
        seen = [0]

        def compute(asked: Request) -> int:
            seen[0] += 1
            return 0

        lowered = Lowering(native, worker).lower(repeat(request, count))
        drive(Task(worker, session.wrap(worker, lowered), compute), session.inner.endpoint)
        return seen[0] + sum(tally[0] for tally in session.meters[0].requests.values())

    return pump


def bare(request: Request, count: int) -> Callable[[], int]:
    """The least that pumping a generator can cost."""

    def pump() -> int:
        seen = 0
        for asked in (asked for asked in repeat(request, count)):
            seen += asked is request
        return seen

    return pump


def rounds(options: Options) -> Iterator[Row]:
    """Whole steps with a gradient that is nearly free."""
    steps = 200 if options.smoke else 5_000
    start = np.ones(SIZE, np.float32)
    rate = 1e-3

    def gradient(x: Any, batch: float) -> Any:
        return x

    def plain() -> Any:
        x = start.copy()
        for _ in range(steps):
            ls.ops.sgd(x, gradient(x, 0.0).copy(), rate)
        return x

    def ours(strategy: ls.Strategy) -> Callable[[], Any]:
        def go() -> Any:
            feed = lambda rank, size: repeat(0.0)  # noqa: E731
            return ls.run(strategy, gradient, start, feed, optimizer=ls.SGD(rate), steps=steps).params

        return go

    contestants: dict[str, Callable[[], Any]] = {"plain loop": plain}
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(), ls.CDSGD(), ls.Hogwild()):
        contestants[f"loosestep {strategy}"] = ours(strategy)
    for name, run in contestants.items():
        np.testing.assert_array_equal(run(), plain(), err_msg=name)
    measured = measure(contestants, options)
    yield from measured.rows(
        "overhead", "step, 1 worker", threads=1, n=steps, amount=steps, unit="steps/s", limits=["plain loop"]
    )


def simulator(options: Options) -> Iterator[Row]:
    """Requests that the simulator performs in a second of real time, whatever they are."""
    n, steps = (4, 5) if options.smoke else (64, 20)
    cases = {
        "AllReduceSGD": (ls.AllReduceSGD(), n * steps * (5 + 2 * (n - 1))),  # 5 and the exchanges inside Start
        "CDSGD": (ls.CDSGD(), n * steps * 5),
        "EASGD": (ls.EASGD(period=1), n * steps * 4),
    }
    for name, (strategy, count) in cases.items():
        run = simulated(strategy, n, steps)
        result = run()
        if name == "AllReduceSGD" and result.messages != steps * 2 * (n - 1):
            raise AssertionError(f"{result.messages} messages a worker, expected {steps * 2 * (n - 1)}")
        measured = measure({"loosestep": run}, options)
        yield from measured.rows(
            "overhead", f"simulator, {name} on {n}", threads=1, n=count, amount=count, unit="requests/s"
        )


def simulated(strategy: ls.Strategy, n: int, steps: int) -> Callable[[], ls.Result]:
    start, on = np.ones(SIZE * n, np.float32), ls.Simulated(n, latency=0.0)  # every message is a request then

    def go() -> ls.Result:
        feed = lambda rank, size: repeat(0.0)  # noqa: E731
        return ls.run(strategy, lambda x, batch: x, start, feed, steps=steps, on=on)

    return go
