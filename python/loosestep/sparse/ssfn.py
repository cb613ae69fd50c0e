"""A network whose layers are convex problems, solved by workers that keep their rows: decentralised SSFN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Buffer, Gradient, Mix, Request
from loosestep.requests.worker import Worker
from loosestep.runtime.result import Result
from loosestep.runtime.run import run
from loosestep.sparse.labels import Classes
from loosestep.sparse.parameters import generator
from loosestep.strategies.base import State, Strategy
from loosestep.topologies.base import Topology
from loosestep.transports.base import Transport
from loosestep.transports.serial import Serial

Array = NDArray[np.float64]


class SSFNClassifier(Classes, BaseEstimator):  # type: ignore[misc]
    """A self-size-estimating feed-forward network, trained layer by layer without backpropagation or a server.

        Y_l = ReLU([V O_(l-1) Y_(l-1) ; R_l Y_(l-1)])    V = [I ; -I]
        O_l = argmin ||T - O Y_l||^2  subject to  ||O||_F <= alpha sqrt(2 Q)

    T holds a column of 0 and 1 for each row of X, Y_0 the rows and a constant, Q is the number of classes. R_l is
    random, uniform in (-1, 1) and the same on all workers, by the seed; what it makes of a row has length 1. V
    lets the last output through, so the cost falls from layer to layer. Workers keep their rows: for each layer
    they make G_m = (Y_m Y_m' + I/mu)^-1 once, and then, `iterations` times,

        O_m = (T_m Y_m' + (Z - L_m)/mu) G_m    Z = projection(mean_m(O_m + L_m))    L_m += O_m - Z

    which comes to what one worker with all rows comes to, however rows are dealt; an iteration sends Q times the
    width of a layer, no row and no hidden value. With a topology the mean is `gossip` rounds of mixing, and off by
    lambda_2^gossip.

    layers: hidden layers. nodes: rows of R_l; a layer is 2 Q wider.
    alpha: of the bound; it must be at least 1 for the cost to fall.
    mu: the step of ADMM; by default the inverse of the mean eigenvalue of Y_m Y_m', over workers.
    iterations: of ADMM in a layer. 100 are exact to about 1e-2, 1,000 to 1e-10 and better.
    on: a transport, whose workers share the rows; by default one worker. Over MPI every process is given all
        rows and computes with its own.
    topology: who mixes with whom, doubly stochastic; by default the exact mean. gossip: rounds of mixing.
    random_state: a seed, of R_l and of the dealing of rows.

    Fitted: `outputs_` (O_l, one array (Q, width) a layer), `hidden_` (R_l), `costs_` (||T - O_l Y_l||^2 by layer).

    >>> import loosestep as ls, numpy as np
    >>> from loosestep.sparse import SSFNClassifier
    >>> X = np.random.default_rng(0).normal(size=(120, 4))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> alone, apart = (SSFNClassifier(1, 20, iterations=600, on=on).fit(X, y) for on in (None, ls.Simulated(4)))
    >>> bool(abs(alone.outputs_[1] - apart.outputs_[1]).max() < 1e-6)
    True

    Reference: X. Liang, A. M. Javid, M. Skoglund, S. Chatterjee, A Low Complexity Decentralized Neural Net with
    Centralized Equivalence using Layer-wise Learning, arXiv:2009.13982; SSFN: the same, arXiv:1905.07111. Here the
    first output is found as all others are, and sizes are given.
    """

    def __init__(
        self,
        layers: int = 5,
        nodes: int = 100,
        *,
        alpha: float = 2.0,
        mu: float | None = None,
        iterations: int = 100,
        on: Transport | None = None,
        topology: Topology | None = None,
        gossip: int = 10,
        random_state: Any = 0,
    ) -> None:
        self.layers = layers
        self.nodes = nodes
        self.alpha = alpha
        self.mu = mu
        self.iterations = iterations
        self.on = on
        self.topology = topology
        self.gossip = gossip
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any) -> SSFNClassifier:
        """Train all layers, one after the other. Return the estimator itself."""
        self._check()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        self._meet_all(y)
        rows, labels = with_constant(X), self._numbers(y)
        targets = np.eye(self.classes_.size)[labels].T
        draw = generator(self.random_state)
        on = Serial() if self.on is None else self.on
        dealt = self._dealt(draw.permutation(rows.shape[1]), labels, on.size)
        parts = [Part(rows[:, mine], targets[:, mine], place) for place, mine in enumerate(dealt)]
        self.outputs_: list[Array] = []
        self.hidden_: list[Array] = []
        self.costs_: list[float] = []
        self._solve(parts, on)
        for _ in range(self.layers):
            hidden = draw.uniform(-1, 1, (self.nodes, self.outputs_[-1].shape[1]))
            for part in parts:
                part.go_on(self.outputs_[-1], hidden)
            self.hidden_.append(hidden)
            self._solve(parts, on)
        return self

    def _check(self) -> None:
        for name in ("layers", "nodes", "iterations", "gossip"):
            checks.integer(name, getattr(self, name), 0 if name == "layers" else 1)
        checks.positive("alpha", self.alpha)
        if self.mu is not None:
            checks.positive("mu", self.mu)
        if self.on is not None:
            checks.instance("on", self.on, Transport)
        if self.topology is not None:
            checks.instance("topology", self.topology, Topology)
            if self.topology.stochastic != "doubly":
                raise ValueError(f"topology must be doubly stochastic, to find means, got {self.topology!r}")

    def _dealt(self, order: NDArray[Any], labels: NDArray[Any], workers: int) -> list[NDArray[Any]]:
        """Return the numbers of each worker's rows, of all in a random order."""
        return np.array_split(order, workers)

    def _solve(self, parts: list[Part], on: Transport) -> Result:
        """Find the output of the layer at which all parts are; return the run that found it."""
        count, width = self.classes_.size, parts[0].width
        bound = self.alpha * float(np.sqrt(2 * count))
        for part in parts:
            part.begin()
        strategy = Consensus(tuple(parts), bound, self.mu, self.topology, self.gossip)
        result = run(
            strategy,
            lambda x, part: part.answer(x),
            np.zeros((count, width)),
            lambda rank, size: repeat(parts[rank], self.iterations),
            on=on,
        )
        self.outputs_.append(np.array(result.params).reshape(count, width))
        self.costs_.append(next(part.total for part in parts if part.total is not None))
        return result

    def _scores(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        y = with_constant(X)
        for output, hidden in zip(self.outputs_, self.hidden_, strict=False):
            y = next_layer(y, output, hidden)
        scores: Array = (self.outputs_[-1] @ y).T
        return scores[:, 1] - scores[:, 0] if self.classes_.size == 2 else scores


def with_constant(X: Any) -> Array:
    """Return the rows as columns, with a constant 1 below."""
    dense = X.toarray() if sp.issparse(X) else X
    return np.vstack([dense.T, np.ones(dense.shape[0])])


def next_layer(y: Array, output: Array, hidden: Array) -> Array:
    """Return what a layer makes of the one before."""
    through, drawn = output @ y, hidden @ y
    length = np.linalg.norm(drawn, axis=0)
    drawn /= np.where(length > 0, length, 1.0)
    return np.maximum(np.vstack([through, -through, drawn]), 0.0)


class Part:
    """One worker's rows, and its half of a layer's problem."""

    def __init__(self, y: Array, targets: Array, rank: int) -> None:
        self.y, self.targets, self.rank = y, targets, rank
        self.begin()

    def begin(self) -> None:
        """Forget the last layer's problem."""
        self.total: float | None = None
        self.begun = False
        self.__dict__.pop("gram", None)

    @property
    def width(self) -> int:
        return int(self.y.shape[0])

    @cached_property
    def gram(self) -> Array:
        return np.asarray(self.y @ self.y.T)

    def go_on(self, output: Array, hidden: Array) -> None:
        """Go to the next layer."""
        self.y = next_layer(self.y, output, hidden)

    def prepare(self, mu: float) -> None:
        """Make what all iterations use."""
        self.mu = mu
        self.inverse = np.linalg.inv(self.gram + np.eye(self.width) / mu)
        self.cross = self.targets @ self.y.T
        self.dual = np.zeros_like(self.cross)
        self.output = np.zeros_like(self.cross)

    def answer(self, z: Array) -> Array:
        """Return O_m + L_m for a Z, which first moves L_m by what the last answer missed it."""
        if self.begun:
            self.dual += self.output - z
        self.begun = True
        self.output = (self.cross + (z - self.dual) / self.mu) @ self.inverse
        return self.output + self.dual

    def cost(self, output: Buffer) -> float:
        """Return the squared distance from the targets."""
        return float(((self.targets - np.asarray(output).reshape(self.cross.shape) @ self.y) ** 2).sum())


@dataclass(frozen=True, repr=False)
class Consensus(Strategy):
    """ADMM: Z <- projection(mean_m(O_m + L_m)); the gradient function is what a worker answers to Z."""

    parts: tuple[Part, ...] = field(compare=False)
    bound: float
    mu: float | None
    topology: Topology | None
    gossip: int

    def weigh(self, worker: Worker) -> float:
        """Return 1: workers count alike, however many rows they have."""
        return 1.0

    def init(self, worker: Worker) -> State:
        if self.topology is not None:
            self.topology.check_size(worker.size)
        return State()

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if worker.round == 1:
            yield from self.prepare(worker)
        yield Gradient()
        if self.topology is None:
            yield AllReduce(worker.grad, op="mean")
        else:
            first = self.gossip * (worker.round - 1)
            for step in range(first, first + self.gossip):
                yield Mix(worker.grad, self.topology.weights(worker.rank, worker.size, step))
        ops.copy(worker.grad, worker.params)
        length = ops.norm(worker.params)
        if length > self.bound:
            ops.scale(worker.params, self.bound / length)

    def prepare(self, worker: Worker) -> Iterator[Request]:
        """Agree on mu, and make what the worker's iterations use."""
        part = self.parts[worker.rank]
        if self.mu is not None:
            part.prepare(self.mu)
            return
        scale = worker.workspace("scale", 1, "float64")
        scale[0] = np.trace(part.gram) / part.width
        yield AllReduce(scale, op="mean")
        part.prepare(1 / float(scale[0]) if scale[0] > 0 else 1.0)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the mean of Z, and what it costs on all rows."""
        yield from super().consensus(worker, state, out)
        part, total = self.parts[worker.rank], worker.workspace("total", 1, "float64")
        total[0] = part.cost(out)
        yield AllReduce(total, op="sum")
        part.total = float(total[0])
