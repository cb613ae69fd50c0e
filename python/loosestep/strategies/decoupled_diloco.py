"""Decoupled DiLoCo: learners that never wait for each other, and fragments that a quorum of them moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, outer_cautions
from loosestep.strategies.base import numbered as name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker

DEGENERATE = 1e-6
"""If the mean of unit directions is shorter than this, it is rounding error."""

NEVER = -1


def radial_directional(deltas: Sequence[Buffer], weights: Sequence[float], out: Buffer) -> None:
    """Set out = (sum w |D| / sum w) phi(sum w phi(D)), phi(v) = v / |v|: as long as the deltas are on average.

    A plain mean of n orthogonal ones would be shorter by the root of n. Where directions cancel: the weighted
    mean. `out` is none of the deltas.
    """
    kept = [(w, delta, ops.norm(delta)) for w, delta in zip(weights, deltas, strict=True) if w]
    total, there = sum(w for w, _, _ in kept), [delta for _, delta, _ in kept]
    if not kept:
        out.fill(0)
        return
    ops.weighted_sum(there, [w / length if length else 0.0 for w, _, length in kept], out)
    direction = ops.norm(out)
    if direction > DEGENERATE * total:
        ops.scale(out, sum(w * length for w, _, length in kept) / total / direction)
    else:
        ops.weighted_sum(there, [w / total for w, _, _ in kept], out)


@dataclass(frozen=True, repr=False)
class DecoupledDiLoCo(Strategy):
    """DiLoCo by fragments whose learners never wait for each other. After every `period` local steps a learner
    leaves its next fragment p, as x_i,p, where it can be found. When `quorum` learners have done so since c_p
    moved last, and a grace window has passed, c_p moves by those that are there, tensor by tensor:

    D <- (sum w_i |D_i| / sum w_i) phi(sum w_i phi(D_i)), D_i = c_p - x_i,p, phi(v) = v / |v|, w_i = b_i b_i / s_i,
    u_p <- m u_p + D, c_p <- c_p - r (D + m u_p).

    b_i and s_i are the samples and steps of learner i since it took c_p. After every step it looks which
    fragments have moved, and overwrites its own by those (x_i,p <- c_p); one that it has left itself, `delay`
    steps after that at the earliest. What is left for a c_p that has moved on is late, and not used.
    Directions count alike, however long: where learners' minima differ c rests near their geometric median.

    There is no syncer besides the learners: c_p, u_p and what is left are variables that all share, and the
    learner that first finds that the window has passed makes the merge. So a window is `grace` of `delay` steps of
    that learner; time for the exchange itself is not subtracted. Embeddings are averaged as all tensors are; where
    tensors are not known, a fragment is one. A learner whose data has ended leaves nothing more. A quorum of all
    then means all that still have data; a quorum that is a number is not met again once fewer have data.

    In the practice of 2026 the local optimizer is AdamW, and a fragment is left about every 24 to 100 steps.

    period: local steps between two fragments that a learner leaves.
    fragments: how many; each is left once in fragments * period steps.
    quorum: learners that must have left a fragment before it moves; by default all whose data has not ended. With
        fewer no slow or lost learner is needed, and a fragment moves as often as so many have left it.
    delay: local steps from leaving a fragment to overwriting it, which loses them.
    grace: part of these that is spent on waiting for more learners than the quorum.
    rate: r, the outer learning rate.
    momentum: m, the outer momentum.

    A round sends d/fragments + n + 1 values in 2 messages; a merge, d/fragments + 2 fragments more in 3. A learner
    receives `fragments` values after every step, n where a quorum is waited for, d/fragments of each fragment that
    moved, and what was left if it merges. With a quorum of all a learner whose data ends sends n values more in
    one message a fragment.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 1600)
    >>> strategy = ls.DecoupledDiLoCo(period=4, fragments=2, quorum=1)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(4), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Of two learners the first has data for 40 steps alone, and the second goes on to where its own data leads:

    >>> unequal = lambda rank, size: iter([1.0 + rank] * [40, 1600][rank])
    >>> strategy = ls.DecoupledDiLoCo(period=4, fragments=2, momentum=0.5)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(4), unequal, on=ls.Simulated(2))
    >>> bool(abs(result.params - 2.0).max() < 0.1)
    True

    Reference: A. Douillard et al., Decoupled DiLoCo for Resilient Distributed Pre-training, arXiv:2604.21428; the
    rule after secondary sources.
    """

    course_depends_on_values: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 25
    fragments: int = 4
    quorum: int | None = None
    delay: int = 2
    grace: float = 0.5
    rate: float = 0.7
    momentum: float = 0.9

    @classmethod
    def example(cls) -> DecoupledDiLoCo:
        """Return one with a quorum of 1, which converges in the steps that the contract tests make."""
        return cls(period=3, fragments=1, quorum=1, rate=0.4, momentum=0.5)

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.integer("fragments", self.fragments)
        if self.quorum is not None:
            checks.integer("quorum", self.quorum)
        checks.integer("delay", self.delay)
        checks.at_most("delay", self.delay, self.period)
        checks.fraction("grace", self.grace)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    @property
    def window(self) -> int:
        """Return the steps for which a quorum waits for others."""
        return int(self.grace * self.delay)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period * self.fragments, self.rate, self.momentum)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d / self.fragments + n + 1, 2)

    def largest_cost(self, n: int, d: int) -> Cost:
        """Return the cost of a worker that merges in every round."""
        return Cost(2 * d / self.fragments + n + 1, 5, 16 * self.fragments)

    def init(self, worker: Worker) -> State:
        if self.quorum is not None and self.quorum > worker.size:
            raise ValueError(f"quorum must be at most {worker.size}, the number of workers, got {self.quorum}")
        parts, none = worker.fragments(self.fragments), buffers.zeros(self.fragments, float)
        return State(
            of=State(**{name(p): self.fragment(worker, p, part) for p, part in enumerate(parts)}),
            center=State(**{name(p): center(worker, p, part) for p, part in enumerate(parts)}),
            turns=worker.shared("turns", like=none),  # 3 k: moved k times; above: being merged
            moves=[0] * self.fragments,  # of what this learner has taken
            left_at=[NEVER] * self.fragments,  # by `looks`, as the next
            quorum_at=[NEVER] * self.fragments,
            since=[[0, 0] for _ in parts],  # samples and looks when it was taken
            samples=0,
            looks=0,
            made=0,  # steps of this round
            ended=False,  # what the others know of this learner's data
        )

    def fragment(self, worker: Worker, p: int, part: slice) -> State:
        """Return the shared variables of a fragment besides its center.

        `there` holds a number of each learner: 4 k if it has left the fragment for its move k; 1 more where its
        data has ended since; 2 more where it has data once more, in a run that was resumed with more of it.
        """
        size = part.stop - part.start
        rest, room = buffers.zeros(size, worker.params.dtype), buffers.zeros(size + 1, worker.params.dtype)
        left = {name(rank): worker.shared(f"left {p} {rank}", like=room) for rank in range(worker.size)}
        there = buffers.zeros(worker.size, worker.params.dtype)
        return State(
            velocity=worker.shared(f"velocity {p}", like=rest),
            there=worker.shared(f"there {p}", like=there),
            left=State(**left),
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield from self.tell(worker, state, ended=False)
        for made in range(state.made, self.period):
            yield Local(1, after=0)
            state.looks += 1
            yield from self.look(worker, state)
            state.made = made + 1
        state.made = 0
        p = (worker.round - 1) % self.fragments
        if state.samples + worker.samples > state.since[p][0]:
            yield from self.leave(worker, state, p)
            yield from self.look(worker, state)
        state.samples += worker.samples

    # --- a learner ---------------------------------------------------------------------------------------

    def leave(self, worker: Worker, state: State, p: int) -> Iterator[Request]:
        """Push the fragment and its weight, then the number that says they are there."""
        part, of = worker.fragments(self.fragments)[p], getattr(state.of, name(p))
        size = part.stop - part.start
        left = worker.workspace("left", size + 1)
        ops.copy(worker.params[part], left[:size])
        left[size] = self.weight(worker, state, p)
        yield Push("blend", (getattr(of.left, name(worker.rank)),), (left,), (0.0,), arrived=True)
        yield self.claim(worker, of.there, worker.rank, 4 * (state.moves[p] + 1))
        state.left_at[p], state.quorum_at[p] = state.looks, NEVER

    def weight(self, worker: Worker, state: State, p: int) -> float:
        """Return the samples times the samples of a step, since the fragment was taken."""
        samples, steps = state.samples + worker.samples - state.since[p][0], state.looks - state.since[p][1]
        return float(samples * samples / steps)

    def look(self, worker: Worker, state: State) -> Iterator[Request]:
        """Take the fragments that have moved, and merge those that a quorum has left."""
        turns = worker.workspace("turns", self.fragments, "float64")
        yield Fetch(state.turns, into=turns)
        for p in range(self.fragments):
            if turns[p] == 3 * state.moves[p] and state.left_at[p] != NEVER:
                yield from self.wait(worker, state, p, turns)
            if turns[p] >= 3 * state.moves[p] + 3 and not self.overlaps(state, p):
                yield from self.take(worker, state, p, int(turns[p]) // 3)

    def overlaps(self, state: State, p: int) -> bool:
        """Return whether this learner left the fragment less than `delay` steps ago."""
        return bool(state.left_at[p] != NEVER and state.looks - state.left_at[p] < self.delay)

    def take(self, worker: Worker, state: State, p: int, moves: int) -> Iterator[Request]:
        """Fetch a fragment that has moved so often, and count samples and steps anew."""
        yield Fetch(getattr(state.center, name(p)), into=worker.params[worker.fragments(self.fragments)[p]])
        state.moves[p], state.left_at[p] = moves, NEVER
        state.since[p] = [state.samples + worker.samples, state.looks]

    def data_ended(self, worker: Worker, state: State) -> Iterator[Request]:
        return self.tell(worker, state, ended=True)

    def tell(self, worker: Worker, state: State, *, ended: bool) -> Iterator[Request]:
        """Publish whether this learner's data has ended: a quorum of all goes on without it."""
        if self.quorum is not None or state.ended == ended:
            return
        state.ended = ended
        for p in range(self.fragments):
            there = yield from self.board(worker, state, p)
            number = int(there[worker.rank])
            if number % 2 != ended and number % 4 < 3:  # 3: known as ended until it leaves the fragment again
                yield self.claim(worker, getattr(state.of, name(p)).there, worker.rank, number + 1)

    # --- a quorum ----------------------------------------------------------------------------------------

    def wait(self, worker: Worker, state: State, p: int, turns: Buffer) -> Iterator[Request]:
        """Merge if the window has passed and no other learner does; `turns` then record it."""
        there = yield from self.board(worker, state, p)
        if not self.suffices(there, state.moves[p] + 1):
            return
        if state.quorum_at[p] == NEVER:
            state.quorum_at[p] = state.looks
        if state.looks - state.quorum_at[p] < self.window:
            return
        mine = 3 * state.moves[p] + 1 + worker.rank / worker.size
        yield self.claim(worker, state.turns, p, mine)
        yield Fetch(state.turns, into=turns)
        if turns[p] == mine:
            yield from self.merge(worker, state, p)
            turns[p] = 3 * state.moves[p] + 3

    def board(self, worker: Worker, state: State, p: int) -> Generator[Request, None, Buffer]:
        """Fetch and return the numbers of all learners for a fragment."""
        there = worker.workspace("there", worker.size, worker.params.dtype)  # in main memory
        yield Fetch(getattr(state.of, name(p)).there, into=there)
        return there

    def suffices(self, there: Buffer, move: int) -> bool:
        """Return whether a quorum has left a fragment for that move."""
        if self.quorum is not None:
            return len(who_left(there, move)) >= self.quorum
        return all(number // 4 == move or number % 2 for number in there)

    def merge(self, worker: Worker, state: State, p: int) -> Iterator[Request]:
        """Make the outer step of a fragment that this learner alone may move."""
        part, of = worker.fragments(self.fragments)[p], getattr(state.of, name(p))
        board = yield from self.board(worker, state, p)  # by now the late ones are there as well
        there = who_left(board, state.moves[p] + 1)
        rows = [worker.workspace(("left by", rank), part.stop - part.start + 1) for rank in there]
        for rank, row in zip(there, rows, strict=True):
            yield Fetch(getattr(of.left, name(rank)), into=row)
        center, delta = (worker.scratch(what, like=worker.params[part]) for what in ("center", "delta"))
        yield Fetch(getattr(state.center, name(p)), into=center)
        for tensor in worker.tensors(part):
            average(center[tensor], [row[tensor] for row in rows], [float(row[-1]) for row in rows], delta[tensor])
        shared = getattr(state.center, name(p)), of.velocity
        yield Push("nesterov", shared, (delta,), (self.rate, self.momentum), arrived=True)
        yield self.claim(worker, state.turns, p, 3 * state.moves[p] + 3)

    def claim(self, worker: Worker, shared: Shared, place: int, number: float) -> Request:
        """Return a push that claims one place of a shared variable with a number: the first learner gets it."""
        values = worker.workspace(("claim", shared.name), shared.size, shared.dtype)
        values.fill(0)
        values[place] = number
        return Push("claim", (shared,), (values,))

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the centers of all fragments."""
        for p, part in enumerate(worker.fragments(self.fragments)):
            yield Fetch(getattr(state.center, name(p)), into=out[part])


def who_left(there: Buffer, move: int) -> list[int]:
    """Return the learners that have left a fragment for that move."""
    return [rank for rank, number in enumerate(there) if number // 4 == move]


def center(worker: Worker, p: int, part: slice) -> Shared:
    """Return the shared variable of a fragment of the model."""
    return worker.shared(f"center {p}", like=buffers.copy_of(worker.params[part]))


def average(center: Buffer, rows: Sequence[Buffer], weights: Sequence[float], delta: Buffer) -> None:
    """Set `delta` to the outer gradient of a tensor; rows become their differences from the center."""
    for row in rows:
        ops.subtract(center, row, row)
    radial_directional(rows, weights, delta)
