"""A run whose loop belongs to the user: one worker's stream of requests, pumped by hand.

`drive` pulls requests until there are none. Here the user's code stands between two of them: whatever waits for
a gradient stays pending until a backward pass has made it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from loosestep import ops
from loosestep.foundation import checks
from loosestep.foundation.buffers import here, is_on_device
from loosestep.foundation.errors import Diverged
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import RollCall
from loosestep.lowering.staging import Staging
from loosestep.requests import AllReduce, Communication, Compute, Gradient, Ready, Start, Update
from loosestep.requests.worker import Worker
from loosestep.runtime.plan import Plan
from loosestep.runtime.program import CONSENSUS, GRADIENT, PARAMETERS, Program
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport, failure
from loosestep.transports.matching import check_facts
from loosestep.transports.metered import Metered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.runtime.program import Model

EARLY = frozenset({RollCall, Start, Ready})
"""What a worker with data never waits at once its model can serve it: it may be performed while backward runs."""

FROM_THE_USER = frozenset({Ready, Gradient, RollCall})
"""What stays pending between two steps: only the next backward, or the end, says how it goes on."""

GIVEN = frozenset({"own_batches", "own_rest", "epochs", "times"})
"""What a strategy may need and gets here as well: see `Parallel.shard`, `Parallel.ready`, `steps_per_epoch`."""

MISSING = {"own_update": "an update of its own"}


def check_strategy(strategy: Strategy) -> None:
    """Refuse what needs more than a loop of the user's can give."""
    checks.instance("strategy", strategy, Strategy)
    for need in sorted(strategy.needs - GIVEN):
        what = MISSING.get(need, need)
        raise TypeError(f"{strategy} needs {what}, which a loop of your own cannot give: use loosestep.run")


class Joined:
    """One worker of a transport, before its run begins: it can communicate."""

    def __init__(self, on: Transport, params: Buffer, seed: int = 0) -> None:
        metered = on if isinstance(on, Metered) else Metered(on)
        self.session = metered.open(seed)
        (rank,) = self.session.ranks[:1]
        self.worker = Worker(rank, metered.size, params, self.share)
        self.worker.seed = seed
        self.meter = self.session.meters[rank]
        there = is_on_device(params)
        self.staging = Staging(self.worker, self.session.clock(rank), self.waited) if there else None
        self.endpoint = self.session.join(self.worker)
        self.handlers: dict[type[Request], Callable[..., object]] = dict(self.endpoint.handlers)

    def share(self, name: str, like: Buffer) -> Shared:
        """Shared variables are kept in main memory."""
        return self.session.share(self.session.ranks[0], name, here(like))

    def waited(self, seconds: float) -> None:
        """For copies between a card and main memory, which are part of a communication."""
        self.meter.waiting += seconds
        self.worker.communicating += seconds

    def compute_with(self, model: Model) -> None:
        """From now on `model` performs what computes."""
        self.handlers.update(dict.fromkeys(Compute.__subclasses__(), model.perform))
        native, session = self.session.native | model.native, self.session
        self.lowering = Lowering(
            native, self.worker, session.unpriced, grouped=session.grouped, hosts=session.hosts
        )

    def agree(self, facts: dict[str, str]) -> None:
        """All processes must have been asked for the same run."""
        check_facts(self.session.surveying("run", lambda: facts)())

    def lower(self, requests: Iterable[Request]) -> Iterator[Request]:
        """What `drive` would be given."""
        requests = self.staging.rewrite(requests) if self.staging else requests
        return self.session.wrap(self.worker, self.lowering.lower(requests))

    def perform(self, request: Request) -> None:
        self.endpoint.doing = request
        self.handlers[type(request)](request)

    def aside(self, requests: Iterable[Request]) -> None:
        """Perform requests between two steps: none of them is metered."""
        before, self.worker.unmetered = self.worker.unmetered, True
        try:
            for request in self.lower(requests):
                self.perform(request)
        finally:
            self.worker.unmetered = before


class Loop:
    """Pumps one worker's program. `begun`: the next step's communication has begun, or its gradient is taken."""

    def __init__(
        self, strategy: Strategy, joined: Joined, model: Model, steps_per_epoch: int | None = None
    ) -> None:
        self.joined, self.worker, self.model = joined, joined.worker, model
        self.clock = joined.session.clock(self.worker.rank)
        self.began: float | None = None  # the user's first forward pass since the last step, if somebody knows
        plan: Plan[Program] = Plan(strategy, steps_per_epoch=steps_per_epoch, pause=self.pause, asks=True)
        self.program = Program(plan, self.worker, model)
        plan.programs.append(self.program)
        self.over = False
        self.failed: BaseException | None = None  # what ended it
        self.restart()

    def restart(self) -> None:
        """Begin where the program's position says."""
        self.begun = False
        self.round, self.done, self.local = self.worker.round, self.program.progress, True
        self.requests = self.joined.lower(self.program.script())
        self.pending = next(self.requests, None)
        self.left = self.clock()

    def pause(self, rank: int, still: bool) -> None:
        (self.joined.session.pause if still else self.joined.session.proceed)(rank)

    # --- pumping -----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Perform what is pending, and see what comes next."""
        request = self.pending
        if request is None:
            raise RuntimeError("the run has ended: step() belongs inside the `with optimizer:` that began it")
        self.note(request)
        if type(request) is RollCall and not self.program.stays:
            request.answer.append(request.present)  # nobody else waits for the answer
        else:
            self.joined.perform(request)
        self.pending = next(self.requests, None)

    def note(self, request: Request) -> None:
        """How far the round is, for checkpoints: steps done, and whether there was nothing but local ones."""
        if self.worker.round != self.round:
            self.round, self.done, self.local = self.worker.round, 0, True
        if isinstance(request, Update) and request.local:
            self.done += 1
        elif request is not GRADIENT and type(request) is not RollCall:
            self.local = False

    def early(self, may: Callable[[Request], bool]) -> None:
        """While backward runs: go on as far as nothing can wait, and the model says that it may."""
        while self.pending is not None and type(self.pending) in EARLY and may(self.pending):
            self.enter()
            self.begun = True
            self.advance()
            self.left = self.clock()

    def ready(self) -> bool:
        """Go on to where a gradient is wanted; whether that led through more than the beginning of a round."""
        self.enter()
        passed = False
        while self.pending is not None and type(self.pending) not in (Ready, Gradient):
            passed |= type(self.pending) is not RollCall
            self.advance()
        self.left = self.clock()
        return passed

    def before_update(self) -> None:
        """The gradient becomes what the optimizer is to see."""
        self.enter()
        self.begun = True
        while type(self.pending) is not Update:
            self.advance()
        self.left = self.clock()

    def finish(self) -> None:
        """The update, and all communication that follows it."""
        self.joined.endpoint.check()
        self.before_update()
        self.advance()
        while type(self.pending) not in FROM_THE_USER and self.pending is not None:
            self.advance()
        self.begun = False
        self.began = None
        self.left = self.clock()

    def enter(self) -> None:
        """Book time in the user's code as no waiting; before the forward pass it is no computing either."""
        now, worker = self.clock(), self.worker
        spent, computing = now - self.left, now - max(self.left, self.began or self.left)
        if isinstance(self.pending, Communication):
            self.joined.meter.waiting -= spent
            worker.communicating -= spent
            worker.computing += computing
        else:  # what is pending is computing, since it was asked for
            worker.computing -= spent - computing
        self.left = now

    def forward(self) -> None:
        """The user's forward pass begins."""
        if self.began is None:
            self.began = self.clock()

    # --- between steps -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Complete what an earlier round began: nothing is under way while a state is saved, or replaced."""
        self.joined.aside(self.program.drain())

    def between_steps(self, what: str) -> None:
        """Refuse what must not happen while a step is under way."""
        if self.begun:
            raise RuntimeError(f"{what} belongs between steps: after step(), before the next backward()")

    def consensus(self) -> Buffer:
        """The parameters to evaluate, on this worker; of a collective consensus every worker asks at one step."""
        if self.failed is not None:
            raise RuntimeError(
                f"the run ended with an error ({type(self.failed).__name__}), so there is no consensus: the model "
                "holds this worker's own parameters"
            )
        if not self.over:
            self.between_steps("consensus()")
            self.joined.aside(self.program.strategy.consensus(self.worker, self.program.state, self.program.out))
            self.check_consensus()
        return self.program.out

    def check_consensus(self) -> None:
        """Raise Diverged where it is not finite: on all workers alike where all have come for it."""
        worker, program = self.worker, self.program
        if ops.all_finite(program.out):
            return
        if program.one_sided():
            raise Diverged(worker.rank, worker.clock, what=CONSENSUS)
        board = np.full(1, float(program.unsound()))
        self.joined.aside([AllReduce(board, op="max")])
        program.check(board[0], worker.clock, PARAMETERS)
        raise Diverged(0, worker.clock, what=CONSENSUS)

    def position(self) -> dict[str, int]:
        """Where a run can begin again: between rounds, or after some steps of a round's first local ones."""
        self.between_steps("state_dict()")
        worker, begun = self.worker, type(self.pending) is not RollCall and self.pending is not None
        fresh = worker.round != self.round  # nothing of its round was performed
        if begun and not fresh and not self.local:
            raise RuntimeError(
                f"worker {worker.rank} is inside round {worker.round}, after its communication: "
                "call state_dict() where a round begins"
            )
        counts = {"clock": worker.clock, "updates": worker.updates, "samples": worker.samples}
        progress = self.done if begun and not fresh else 0
        return {
            **counts,
            "part": self.program.part,
            "round": worker.round - (begun and fresh),
            "progress": progress,
        }

    def go_to(self, position: dict[str, int]) -> None:
        """Begin again at a position, of whose part of a schedule the state is there."""
        self.program.progress = position["progress"]
        self.program.in_flight.clear()
        for name in ("clock", "updates", "samples", "round"):
            setattr(self.worker, name, position[name])
        self.restart()

    # --- the end -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The data has ended: stay as long as the strategy wants this worker."""
        self.enter()
        if isinstance(self.pending, RollCall):  # asked when there might have been data
            self.pending = replace(self.pending, present=False)
        while self.pending is not None:
            self.advance()
        self.begun = False

    def leave(self, error: BaseException | None, last: Iterable[Request] = ()) -> None:
        """End this worker, `last` after all else; with an error at once, and the others as the transport says."""
        if self.over:
            return
        try:
            if error is None:
                self.drain()
                self.joined.aside(last)
        except BaseException as failed:
            error = failed
            raise
        finally:
            self.over, self.pending, self.failed = True, None, error
            told = error and failure(self.worker, self.joined.endpoint.doing, error)
            self.joined.session.leave(told)
