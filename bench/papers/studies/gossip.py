"""Gossip on fixed graphs: CDSGD and CDMSGD, and how far replicas are apart.

5, 8 and 16 agents train MLP(32) on Fashion-MNIST, 800, 500 and 300 steps of 32 rows each, on a complete graph, a
hypercube (8 and 16), a ring and a chain. Asked: do speed and spread of the replicas follow the spectral gap; how
do CDSGD and CDMSGD (momentum 0.95, as in the paper) stand to mini-batch SGD, FedAvg and EASGD, after equal steps
and in equal virtual seconds, where data is alike and where each agent has labels of its own; and is the distance
from the consensus what theory says? In virtual time a gradient takes 1 ms, links carry 1 Gbit/s, a message takes
0.1 ms besides.

In CDSGD's recursion the differences from the mean of the agents, X, follow X <- W X - eta G, so they never exceed
eta |G| / ((1 - mu) (1 - lambda)): lambda is the second modulus of W, |G| the root mean square of the agents'
gradients at its largest, of those at 20 places of a run. That is the bound. What is to be expected is less: the
part of a gradient that stays, an agent's own data, moves the k-th mode of W by eta / ((1 - mu) (1 - lambda_k)),
and noise that is new in every step adds up to eta^2 / (1 - lambda_k^2) in the square, with momentum by a Lyapunov
equation of its own. At the ten places of the second half these are measured: noise by what agents' gradients
differ where data is alike, where nothing stays; else both by a batch and by 512, 256 and 128 rows of every agent's
data, at its own replica. The expected spread is computed from them. Spread, bound and expectation are root mean
squares over agents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import loosestep as ls
from bench.papers.drawing import COLORS, Curves, style
from bench.papers.rows import rows_of
from bench.papers.study import Study, batches, diverges, point, train
from bench.papers.tables import ACCURACY, SENT, TEST_LOSS, Column, Plain, first_at
from bench.papers.types import Contender, Found, Picture, Point, Run
from loosestep.data import Dataset, shards
from loosestep.data.models import MLP, Classifier
from loosestep.optimizers import Optimizer

Array = NDArray[Any]
STEPS = {5: 800, 8: 500, 16: 300}  # of each agent
MU, REACHED, SOON = 0.95, 0.75, 0.3
MANY = {5: 512, 8: 256, 16: 128}  # rows of every agent, some 2,000 of all
PLAIN, AHEAD = (0.05, 0.1, 0.2, 0.4), (0.0025, 0.005, 0.01, 0.02)  # rates tried without and with momentum
SLOWER = (0.00125, *AHEAD)  # with labels of their own
CHOSEN = {  # with 5 agents: of SGD, SGD with momentum, FedAvg, the same, EASGD, CDSGD and CDMSGD on a ring
    False: (0.1, 0.01, 0.1, 0.01, 0.1, 0.1, 0.01),
    True: (0.1, 0.02, 0.1, 0.0025, 0.05, 0.1, 0.00125),
}


# --- what is measured ----------------------------------------------------------------------------------------


@dataclass
class Witness:
    """Sees every agent's replica and gradient; keeps the numbers of each `every`-th step in `points`."""

    contender: Contender
    classifier: Classifier
    many: list[tuple[Array, Array]]  # of every agent, rows of its data
    every: int
    points: dict[int, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.steps = [0] * len(self.many)
        self.seen: dict[int, dict[int, tuple[Array, Array]]] = {}
        self.largest = 0.0  # G so far
        self.matrix = strategy_of(self.contender).topology.matrix(len(self.many))

    def gradient(self, x: Array, batch: tuple[Array, Array, int]) -> tuple[float, Array]:
        """Return loss and gradient, and keep them for the step's numbers."""
        rows, labels, rank = batch
        loss, found = self.classifier.gradient(x, (rows, labels))
        step = self.steps[rank]
        self.steps[rank] += 1
        if step and step % self.every == 0:
            of_step = self.seen.setdefault(step, {})
            of_step[rank] = x.copy(), found
            if len(of_step) == len(self.many):
                del self.seen[step]
                agents = [of_step[each] for each in range(len(self.many))]
                self.points[step] = self.numbers(*(np.array(each) for each in zip(*agents, strict=True)))
        return loss, found

    def numbers(self, replicas: Array, gradients: Array) -> dict[str, float]:
        """Return spread, bound and expected spread, from a replica and a gradient of every agent."""
        rate, mu = rate_of(self.contender.optimizer)
        self.largest = max(self.largest, power(gradients) ** 0.5)
        second = np.sort(np.abs(np.linalg.eigvalsh(self.matrix)))[-2]
        found = {
            "spread": power(replicas - replicas.mean(axis=0)) ** 0.5,
            "bound": rate * self.largest / ((1 - mu) * (1 - second)),
        }
        if 2 * min(self.steps) < self.contender.steps:  # the beginning is not shown
            return found
        if self.contender.by_label:
            steady = [self.classifier.gradient(x, rows)[1] for x, rows in zip(replicas, self.many, strict=True)]
            share = self.contender.batch / len(self.many[0][1])  # of the noise that is still in `steady`
            noise = max(0.0, (power(gradients) - power(np.array(steady))) / max(1e-9, 1 - share))
            return found | {"expected": expected(self.matrix, rate, mu, np.array(steady), noise, share * noise)}
        n = len(gradients)
        noise = power(gradients - gradients.mean(axis=0)) * n / (n - 1)
        return found | {"expected": expected(self.matrix, rate, mu, np.zeros((n, 1)), noise, 0.0)}


def power(rows: Array) -> float:
    """Return the mean over agents of the squared norm."""
    return float((rows.astype(np.float64) ** 2).sum(axis=1).mean())


def expected(matrix: Array, rate: float, mu: float, steady: Array, noise: float, left: float) -> float:
    """Return the root mean square of agents' differences from their mean.

    steady: gradients that stay, a row an agent; noise: the power of what is new in every step; left: of that, the
    power in `steady`.
    """
    total = 0.0
    values, modes = np.linalg.eigh(matrix)
    for value, mode in zip(values[:-1], modes.T[:-1], strict=True):  # the last is the mean
        stays = max(0.0, float(((mode @ steady.astype(np.float64)) ** 2).sum()) - left)
        total += (rate / (1 - mu) / (1 - value)) ** 2 * stays + rate**2 * stationary(float(value), mu) * noise
    return float((total / len(matrix)) ** 0.5)


def stationary(value: float, mu: float) -> float:
    """Return the variance at rest of x <- value x + mu v - g, v <- mu v - g, where g is noise of variance 1.

    v on the right is the new one: Nesterov's form, as in the release of CDMSGD.
    """
    step, push = np.array([[value, mu * mu], [0.0, mu]]), np.array([1.0 + mu, 1.0])
    at_rest = np.linalg.solve(np.eye(4) - np.kron(step, step), np.kron(push, push))
    return float(at_rest[0])


def strategy_of(contender: Contender) -> ls.CDSGD:
    assert isinstance(contender.strategy, ls.CDSGD)
    return contender.strategy


def rate_of(optimizer: Optimizer) -> tuple[float, float]:
    """Return rate and momentum."""
    assert isinstance(optimizer, (ls.SGD, ls.Nesterov))
    assert isinstance(optimizer.rate, float)
    return optimizer.rate, optimizer.momentum if isinstance(optimizer, ls.Nesterov) else 0.0


def measure(contender: Contender, seed: int, every: int) -> Run:
    """Train; of CDSGD keep how far replicas are apart."""
    if not isinstance(contender.strategy, ls.CDSGD):
        return train(contender, seed, every)
    data = rows_of(contender.data, contender.rows)
    classifier = contender.model.build(data.features, data.classes)
    witness = Witness(contender, classifier, many_rows(contender, data, seed), every)
    points: list[dict[str, float]] = []
    diverged = diverges(
        lambda: ls.run(
            contender.strategy,
            witness.gradient,
            classifier.init(seed),
            tagged(batches(contender, data, seed)),
            optimizer=contender.optimizer,
            steps=contender.steps,
            on=contender.on,
            seed=seed,
            evaluate=lambda params: classifier.evaluate(params, data.test),
            every=every,
            callback=lambda at: points.append(dict(point(at))),
        )
    )
    if diverged:
        return Run(contender.setting, seed, points, diverged=True)
    for each in points:
        found = witness.points.get(int(each["step"]), {})
        each.update({name: float(f"{value:.6g}") for name, value in found.items()})
    return Run(contender.setting, seed, points)


def many_rows(contender: Contender, data: Dataset, seed: int) -> list[tuple[Array, Array]]:
    """Return many rows of every agent's data, in another order than it takes them."""
    deal = shards(data.train, MANY[contender.on.size], 1, seed + 1000, by_label=contender.by_label)
    return [next(deal(rank, contender.on.size)) for rank in range(contender.on.size)]


def tagged(deal: Callable[[int, int], Iterator[Any]]) -> Callable[[int, int], Iterator[Any]]:
    """Return the same batches, each with the rank of its agent."""

    def numbered(rank: int, size: int) -> Iterator[Any]:
        for rows, labels in deal(rank, size):
            yield rows, labels, rank

    return numbered


# --- what is shown -------------------------------------------------------------------------------------------


def late(name: str) -> Callable[[Sequence[Point]], float | None]:
    """Return the root mean square over the second half of a run."""

    def of(points: Sequence[Point]) -> float | None:
        found = [at[name] for at in points[len(points) // 2 :] if name in at]
        return float(np.mean(np.square(found)) ** 0.5) if found else None

    return of


def in_time(points: Sequence[Point]) -> float | None:
    """Return the test accuracy of the last evaluation until then."""
    found = [at["test_accuracy"] for at in points if at["seconds"] <= SOON]
    return found[-1] if found else None


SPREAD = Column("spread", late("spread"), ".3g")
EXPECTED = Column("expected", late("expected"), ".3g")
BOUND = Column("bound", late("bound"), ".3g")
COLUMNS = (
    ACCURACY,
    TEST_LOSS,
    Column(f"steps to {REACHED:.0%}", first_at("step", REACHED), ".4g"),
    Column(f"virtual s to {REACHED:.0%}", first_at("seconds", REACHED)),
    Column(f"accuracy after {SOON} virtual s, %", in_time, ".2f", 100),
    SENT,
    SPREAD,
    EXPECTED,
    BOUND,
)


@dataclass(frozen=True)
class Spreads(Picture):
    """Curves over steps and seconds, and beside them the measured spread against the expected, a dot a seed."""

    curves: Curves = field(
        default_factory=lambda: Curves((("step", "test_accuracy"), ("seconds", "test_accuracy")))
    )

    def columns(self) -> int:
        return self.curves.columns() + 1

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        self.curves.draw(axes[:-1], found)
        place = axes[-1]
        ends: list[float] = []
        for number, (contender, runs) in enumerate(found.items()):
            look = style(number) | {"linestyle": "", "label": contender.label}
            there = [
                [column.of(run.points) for column in (EXPECTED, SPREAD, BOUND)] for run in runs if not run.diverged
            ]
            dots = np.array([each for each in there if None not in each], float).reshape(-1, 3)
            place.plot(dots[:, 0], dots[:, 1], **look)
            place.plot(dots[:, 0], dots[:, 2], "_", color=COLORS[number % len(COLORS)], alpha=0.6)
            ends += dots[:, 0].tolist()
        if ends:
            place.plot([min(ends), max(ends)], [min(ends), max(ends)], color="gray", linewidth=1)
            place.set(xscale="log", yscale="log")
            for axis in (place.xaxis, place.yaxis):
                few_marks(axis)
        place.set(xlabel="expected spread", ylabel="measured spread; bars: bound")


def few_marks(axis: Any) -> None:
    """Mark 1, 2 and 5 on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def graphs(n: int) -> Iterator[tuple[str, ls.Topology]]:
    """From the largest spectral gap to the smallest."""
    yield "complete", ls.Complete()
    if ls.Hypercube().serves(n):
        yield "hypercube", ls.Hypercube()
    yield "ring", ls.Ring()
    yield "chain", ls.Graph(tuple(tuple(k for k in (i - 1, i + 1) if 0 <= k < n) for i in range(n)))


def methods(n: int) -> Iterator[tuple[str, ls.Strategy, int, bool]]:
    """Label, strategy, its place among the chosen rates, and whether it is the one that tries all."""
    yield "mini-batch SGD", ls.AllReduceSGD(), 0, True
    yield "mini-batch SGD, momentum", ls.AllReduceSGD(), 1, True
    yield "FedAvg, period 20", ls.FedAvg(20), 2, True
    yield "FedAvg, period 20, momentum", ls.FedAvg(20), 3, True
    yield "EASGD, period 10", ls.EASGD(10), 4, True
    for place, name in ((5, "CDSGD"), (6, "CDMSGD")):
        for where, graph in graphs(n):
            yield f"{name}, {where}, gap {graph.spectral_gap(n):.2g}", ls.CDSGD(graph), place, where == "ring"


def optimizers(place: int, rates: Sequence[float]) -> list[Optimizer]:
    """Return the method's local optimizer with each of the rates."""
    return [ls.Nesterov(rate, MU) if place in (1, 3, 6) else ls.SGD(rate) for rate in rates]


def rates_of(place: int, by_label: bool) -> Sequence[float]:
    """Return those that are tried."""
    if place not in (1, 3, 6):
        return PLAIN
    return SLOWER if by_label else AHEAD


STUDY = Study(
    tuple(
        Contender(
            label,
            strategy,
            optimizers(place, [CHOSEN[by_label][place]])[0],
            ls.Simulated(n, step_time=1e-3, latency=1e-4, bandwidth=1.25e8),
            steps=steps,
            model=MLP(32),
            by_label=by_label,
            panel=f"{n} agents, {'labels of their own' if by_label else 'data alike'}",
            tried=tuple((strategy, each) for each in optimizers(place, rates_of(place, by_label)))
            if tries and n == 5
            else (),
        )
        for by_label in (False, True)
        for n, steps in STEPS.items()
        for label, strategy, place, tries in methods(n)
    ),
    pictures=(Spreads(),),
    tables=(Plain(COLUMNS),),
    measure=measure,
)

FINDINGS = """
## What it shows

- **The spread follows the spectral gap.** Of CDMSGD in all six panels, by a factor of 1.8 to 2.4 from the complete
  graph to a chain of 5, and of 5 to one of 16. Of CDSGD, at its larger rate, the complete graph is nearest and the
  chain farthest but for one panel each (labels of their own, by less than seeds spread), and hypercubes of 8 (data
  alike) and of 16 (labels of their own) are farther apart than rings.
- **Speed follows it only where agents have labels of their own**: CDSGD ends at 80.6, 80.3 and 76.5 % with 5
  agents, at 82.2, 79.8, 79.2 and 72.0 % with 8, at 81.8, 79.1, 70.7 and 54.5 % with 16, from the complete graph to
  the chain, and CDMSGD in the same order. **Where data is alike the graph does not matter** after equal steps (0.4
  points, as seeds do), so there sparse graphs win in equal virtual seconds: CDMSGD on a chain of 16 has 83.1 %
  after 0.3 s, on the complete graph 68.9 %, for 57 and 458 MB. The exception is CDSGD on a hypercube of 16, 0.8
  points behind: its smallest eigenvalue is -0.6, and eta h must be below 1 + that.
- **CDMSGD is ahead of CDSGD where data is alike** (1 to 2.7 points) and ahead of FedAvg (0.9 to 2.1 points), as in
  the paper. That is momentum's work: FedAvg with momentum is within 0.8 points, for a 21st to a 25th of a ring's
  bytes, and mini-batch SGD with momentum is where CDMSGD is. **With labels of their own CDMSGD is not ahead of
  CDSGD**: its spread grows by 1 / (1 - mu), the best rate is the least that was tried, 0.00125, and it ends 0.3 to
  0.5 points behind with 5 agents on the complete graph and the ring (1.4 ahead on the chain), 1 to 5 behind with 8
  and 16, whose runs are shorter. It is ahead of FedAvg by 3 to 5 points with 5 agents, by up to 4 on dense graphs
  of more, and behind on chains of them.
- **Mini-batch SGD is ahead of all others with labels of their own** (83 to 86 %), and after 0.3 virtual seconds as
  well: on these links an all-reduce takes less time than the messages of dense graphs. EASGD is last there, 66, 49
  and 35 %: it exchanges every tenth step, and the center moves by 0.9 / n of an agent's distance. Where data is
  alike it is within 1 point of CDSGD for 5 % of a ring's bytes.
- **The bound holds and is far off**: 1.4 to 175 times the spread, in the mean over seeds. It is nearest on
  complete graphs, where one step makes all of the spread, and farthest on chains. At 20 of 2,774 places it is
  below the spread, mostly at the first, on complete graphs and hypercubes: the largest gradient is that of the
  places so far, and those before the first were larger.
- **The expected spread is the measured one to 5 % for CDMSGD with labels of their own**, on every graph and number
  of agents: what stays makes it, and the rate is small. For CDSGD it is right to 4 % on complete graphs, and where
  data is alike to 26 % on rings. It is too large on sparse graphs otherwise, up to 2.2 times for CDMSGD where data
  is alike, up to 2.9 times for CDSGD with labels of their own: the curvature of the loss, which is not in it,
  brings replicas together as W does. On hypercubes with data alike it is too small for CDSGD, by up to a fifth:
  curvature adds to the modulus of a negative eigenvalue.

Rates were chosen with 5 agents, on a ring for CDSGD and CDMSGD, and are used for all numbers of agents: 0.1 and
0.01 for data alike. With labels of their own the best of SGD with momentum were the ends of what was tried (0.02
for mini-batch SGD, 0.00125 for CDMSGD). The evaluated model is the mean of the replicas. The bound, where it is
reached, what stays and what noise adds are proved on quadratics in `tests/papers/test_consensus_distance.py`.
"""
