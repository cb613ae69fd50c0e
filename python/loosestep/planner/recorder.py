"""Records what one worker of a run asks for, without the others: requests do not depend on what the values are."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loosestep._core import Center
from loosestep.foundation import buffers
from loosestep.lowering import forms
from loosestep.lowering.collectives import members
from loosestep.lowering.costs import cost_of
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import Script
from loosestep.requests import (
    AllReduce,
    Communication,
    Exchange,
    Fetch,
    Gradient,
    Local,
    Push,
    Ready,
    Request,
    Shared,
    Sleep,
    Start,
    Update,
    Wait,
)
from loosestep.requests.links import Links
from loosestep.requests.worker import Worker
from loosestep.transports import center

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Buffer
    from loosestep.strategies.base import Strategy
    from loosestep.transports.simulated.transport import Simulated

STEP, READY, EXCHANGE, ALL_REDUCE, PUSH, FETCH, SLEEP, START, WAIT, UPDATE = range(10)
"""Kinds of requests, as csrc/simulated/recorded.hpp numbers them."""
MOST_VALUES = (1 << 31) - 1  # that a request of the core says: half of what fits
SMALL = 16
"""A buffer of fewer values is no part of the parameters: it holds counts or times, and stands for itself."""
NATIVE = frozenset({Gradient, Ready, Update, Exchange, AllReduce, Fetch, Push, Sleep, Start, Wait})

Op = tuple[int, int, int, float]


@dataclass(frozen=True)
class Size:
    """How many parameters there are, and how many of them each recorded value stands for."""

    parameters: int
    recorded: int

    @property
    def density(self) -> float:
        return self.parameters / self.recorded

    def values(self, count: int) -> int:
        """Return how many values a buffer of `count` values stands for."""
        return count if count < SMALL else round(count * self.density)

    def nbytes(self, buffer: Buffer) -> int:
        """Return how many bytes a buffer stands for."""
        return self.values(buffer.size) * buffer.itemsize


@dataclass
class Recording:
    """What one worker asks for, in the form that the core replays, and what it sends."""

    scripts: list[list[Op]] = field(default_factory=lambda: [[]])
    sends: list[tuple[int, float]] = field(default_factory=list)
    receives: list[int] = field(default_factory=list)
    exchanges: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    reductions: list[tuple[int, int, bool, bool, int]] = field(default_factory=list)
    nbytes: float = 0.0
    messages: int = 0
    steps: int = 0
    looked: bool = False  # at its own rank: another worker may ask for something else

    def program(self) -> tuple[Any, ...]:
        """Return what `_core.replay` takes."""
        return self.scripts, self.sends, self.receives, self.exchanges, self.reductions


class Groups:
    """The groups of workers that meet, by number; 0 is that of all."""

    def __init__(self, size: int) -> None:
        self.numbers: dict[tuple[int, ...] | None, int] = {None: 0}
        self.members: list[list[int]] = [list(range(size))]

    def number(self, group: tuple[int, ...] | None) -> int:
        if group not in self.numbers:
            self.numbers[group] = len(self.members)
            self.members.append(sorted(group or ()))
        return self.numbers[group]


class WatchedWorker(Worker):
    """A worker that notes whether anything looked at its rank: if not, all workers ask for the same."""

    looked = False

    @property
    def rank(self) -> int:
        self.looked = True
        return self._rank

    @rank.setter
    def rank(self, rank: int) -> None:
        self._rank = rank


class Recorder:
    """One worker that is alone: it gets its own values back for those of others, and its gradients are zero."""

    def __init__(
        self, rank: int, size: int, amount: Size, dtype: Any, groups: Groups, links: Links | None, samples: int
    ) -> None:
        self.rank, self.amount, self.groups, self.samples = rank, amount, groups, samples
        self.record = Recording()
        self.worker = WatchedWorker(rank, size, buffers.zeros(amount.recorded, dtype), self.share)
        self.links, self.worker.density = links, amount.density
        if links is not None:  # to which a value is as many bytes as what it stands for
            self.worker.links = Links(links.latency, links.bandwidth / amount.density)
        self.shared: dict[str, Shared] = {}
        self.ops = self.record.scripts[0]
        self.variables: dict[str, int] = {}  # by name: their number
        self.seconds_of_update, self.contention = 0.0, False
        self.begun: dict[Communication, int] = {}  # what was started, by number
        self.handlers: dict[type[Request], Callable[[Any], object]] = {
            Gradient: self.gradient,
            Ready: self.ready,
            Update: self.update,
            Exchange: self.exchange,
            AllReduce: self.all_reduce,
            Push: self.push,
            Fetch: self.fetch,
            Sleep: lambda request: self.note(SLEEP, value=request.seconds),
            Start: self.start,
            Wait: lambda request: self.note(WAIT, count=self.begun[request.request]),
            Script: self.script,
        }

    def play(
        self, strategy: Strategy, optimizer: Optimizer, steps: int, on: Simulated, *, closed: bool
    ) -> Recording:
        """Perform the rounds of so many local steps; closed: an allreduce stays one request."""
        self.contention = on.prices.contention > 0  # the length of a step depends on when it begins
        self.seconds_of_update = on.prices.update * self.amount.nbytes(self.worker.params)
        self.worker.moments = optimizer.init(self.worker.params)
        state = strategy.init(self.worker)
        native = NATIVE if closed else NATIVE - {AllReduce}
        lowering = Lowering(native, self.worker, hosts=on.groups())
        for request in lowering.lower(rounds(strategy, self.worker, state, steps)):
            self.meter(request)
            self.handlers[type(request)](request)
        self.record.steps, self.record.looked = self.worker.clock, self.worker.looked
        return self.record

    def share(self, name: str, like: Buffer) -> Shared:
        if name not in self.shared:
            self.shared[name] = Shared(name, like.size, like.dtype, Center(like))
        return self.shared[name]

    def note(self, kind: int, index: int = 0, count: int = 0, value: float = 0.0) -> None:
        self.ops.append((kind, index, count, value))

    def meter(self, request: Request) -> None:
        """Count what is sent, as `Metered` does."""
        if not isinstance(request, Communication):
            return
        asked = request.request if type(request) is Start else request
        if type(asked) is AllReduce:
            nbytes, messages = self.mean_cost(asked)
        else:
            nbytes, messages = cost_of(request, self.rank, self.worker.size, self.worker.links)
            nbytes *= self.amount.density if nbytes >= 8 * SMALL else 1
        self.record.nbytes += nbytes
        self.record.messages += messages

    def mean_cost(self, request: AllReduce) -> tuple[float, int]:
        """Return what a member sends, the mean over all: chunks that do not come out even differ by a value."""
        n, nbytes = self.members(request), self.amount.nbytes(request.buf)
        if self.form(request).whole:
            return (n - 1) * nbytes, n - 1
        return 2 * (n - 1) / n * nbytes, 2 * (n - 1)

    def members(self, request: AllReduce) -> int:
        """Return how many workers take part."""
        return len(members(request, self.worker.size))

    def form(self, request: AllReduce) -> forms.Form:
        """Return how its messages are arranged, for as many bytes as it stands for."""
        return forms.of_all_reduce(self.members(request), self.amount.nbytes(request.buf), self.links)

    # --- computation -------------------------------------------------------------------------------------

    def gradient(self, request: Gradient) -> None:
        step = self.step()
        last = self.ops[-1] if self.ops else None
        if last is not None and last[0] == STEP and last[1] + last[2] == step and not self.contention:
            self.ops[-1] = (STEP, last[1], last[2] + 1, 0.0)
        else:
            self.note(STEP, step, 1)

    def update(self, request: Update) -> None:
        self.worker.count_update()
        if self.seconds_of_update:
            self.note(UPDATE, value=self.seconds_of_update)

    def ready(self, request: Ready) -> None:
        bucket = request.bucket
        first = bucket.index == 0
        self.note(READY, self.step() if first else 0, int(first), bucket.share)

    def step(self) -> int:
        """Count a step, and return its number."""
        self.worker.clock += 1
        self.worker.samples += self.samples
        return self.worker.clock - 1

    # --- communication -----------------------------------------------------------------------------------

    def exchange(self, request: Exchange) -> None:
        record, amount = self.record, self.amount
        first = len(record.sends), len(record.receives)
        record.sends += [(to, float(amount.nbytes(buf))) for to, buf in request.sends]
        record.receives += [source for source, _ in request.recvs]
        self.note(EXCHANGE, len(record.exchanges))
        tag = request.tag & (1 << 64) - 1
        record.exchanges.append((tag, first[0], len(record.sends), first[1], len(record.receives)))
        for source, into in request.recvs:
            if request.notes is not None:
                request.notes[source] = request.note
            alike = next((buf for _, buf in request.sends if buf.shape == into.shape), None)
            if alike is not None and alike.dtype == into.dtype:
                into[...] = alike

    def all_reduce(self, request: AllReduce) -> None:
        count, itemsize = self.amount.values(request.buf.size), request.buf.itemsize
        form, group = self.form(request), self.groups.number(request.group)
        self.note(ALL_REDUCE, len(self.record.reductions))
        self.record.reductions.append((count, itemsize, form.whole, form.at_once, group))

    def push(self, request: Push) -> None:
        sent = sum(map(self.amount.nbytes, request.values))
        number, values = self.variable(request.shared[0])
        self.note(PUSH, number, 2 * values + int(request.arrived), float(sent))
        center.move(request, request.values)

    def fetch(self, request: Fetch) -> None:
        number, values = self.variable(request.shared)
        self.note(FETCH, number, 2 * values, float(self.amount.nbytes(request.into)))
        center.read(request)

    def variable(self, shared: Shared) -> tuple[int, int]:
        """Return a variable's number, and how many values it has, at most as many as a request can say."""
        return self.variables.setdefault(shared.name, len(self.variables)), min(
            self.amount.values(shared.size), MOST_VALUES
        )

    def start(self, request: Start) -> None:
        asked = request.request
        number = self.begun[asked] = len(self.begun)
        self.note(START, len(self.record.scripts), number)
        with self.beside():
            for inner in asked.requests if isinstance(asked, Script) else (asked,):
                self.handlers[type(inner)](inner)

    def script(self, request: Script) -> None:
        self.start(Start(request))
        self.note(WAIT, count=self.begun[request])

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Record a new script."""
        before, self.ops = self.ops, []
        self.record.scripts.append(self.ops)
        yield
        self.ops = before


def rounds(strategy: Strategy, worker: Worker, state: Any, steps: int) -> Iterable[Request]:
    """Yield what a worker asks for until it has made so many local steps, as `Program` does with endless data."""
    while worker.clock < steps:
        worker.round += 1
        worker.samples, worker.inside = 0, True
        for request in strategy.round(worker, state):
            if type(request) is not Local:
                yield request
                continue
            for step in range(min(request.steps + request.idle, steps - worker.clock)):
                if step < request.steps:
                    yield Gradient()
                    yield Update(request.proximal, local=True)
                else:
                    worker.clock += 1
        worker.inside = False
