"""The failure detector: tells dead, mismatched and busy workers apart while this one waits for them."""

from __future__ import annotations

import sys
import time
from math import inf
from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import Mismatch, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.requests import Request
    from loosestep.transports.processes.queries import Queries

LOOK = 1.0  # seconds between two questions
STILL = 3  # looks at which nothing moved anywhere before that counts as a mismatch
NOTICE = 10.0  # seconds until the first line about late workers; then at twice, four times, ... that time
SILENT = {"waiting": "", "doing": "native code that holds its Python", "line": "it does not answer", "stacks": ""}
"""The state of a worker whose core lives and whose Python does not answer."""


class FailureDetector:
    """What a process knows of the life of the others.

    queries: asks them how they are, under "state". heartbeats: each gives when (time.monotonic) it last had a sign
    of life from a rank. heartbeat_timeout: seconds without any after which a worker counts as dead. deadline:
    seconds for which a worker may be busy, and for which nothing may move.
    """

    def __init__(
        self,
        queries: Queries,
        heartbeats: Sequence[Callable[[int], float]],
        heartbeat_timeout: float,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queries, self.heartbeats, self.clock = queries, heartbeats, clock
        self.rank, self.size = queries.mailbox.rank, queries.mailbox.size
        self.heartbeat_timeout, self.deadline = heartbeat_timeout, deadline

    def last_heard(self, rank: int) -> float:
        """Return when the last sign of life of a rank came."""
        return max(last(rank) for last in self.heartbeats)

    def watch(self, what: str | Request, began: float) -> Watch:
        """Watch the others during one wait, which began at a time of the clock."""
        return Watch(self, what, began)


class Watch:
    """One wait of this worker.

    Dead: no sign of life for `heartbeat_timeout` seconds. Mismatched: every worker waits, every message that was
    sent has arrived, and no worker has made progress since the look before, at `STILL` looks. Busy: in the user's
    code; waited for, for `deadline` seconds, with a line now and then.
    """

    def __init__(self, detector: FailureDetector, what: str | Request, began: float) -> None:
        self.detector, self.what = detector, what  # in words only where they are printed: a wait is short
        self.began = self.asked = began
        self.notice = NOTICE
        self.questioned = inf  # when the question that is open was asked
        self.states: dict[int, Any] = {}
        self.progress: list[Any] = []  # of every worker, at the look before
        self.still, self.since = 0, inf  # looks without progress, and when the first one was

    def look(self) -> None:
        """Ask, once a second, how the others are; raise if waiting is in vain."""
        detector = self.detector
        now = detector.clock()
        if now - self.asked < LOOK:
            return
        self.asked = now
        self.refuse_the_dead(now)
        answered = len(self.states) == detector.size
        if answered:
            self.refuse_a_mismatch(now)
        if answered or now - self.questioned > detector.heartbeat_timeout:
            self.refuse_the_late(now)
        if answered or self.questioned == inf:
            self.states, self.questioned = {}, now
            detector.queries.ask_all("state", None, self.states)

    def refuse_the_dead(self, now: float) -> None:
        """Raise TimedOut for workers without a sign of life."""
        me, timeout = self.detector.rank, self.detector.heartbeat_timeout
        others = (rank for rank in range(self.detector.size) if rank != me)
        dead = [rank for rank in others if now - max(self.began, self.detector.last_heard(rank)) > timeout]
        if dead:
            words = [f"worker {rank}, which shows no sign of life (dead, stopped, or cut off)" for rank in dead]
            raise TimedOut(me, str(self.what), words, timeout)

    def refuse_a_mismatch(self, now: float) -> None:
        """Raise Mismatch where every worker waits and nothing can come any more.

        Only progress begins the count again. Questions and answers are none: they neither move a counter nor are
        they counted as sent. Two looks do not overlap, so counters that are the same at both stood still between
        them; then equal sums of messages sent and received mean that none is on its way. Where one seems to be
        for ever, the deadline holds.
        """
        states = [self.states[rank] for rank in range(self.detector.size)]
        progress = [state["progress"] for state in states]
        if progress != self.progress or not all(state["waiting"] for state in states):
            self.progress, self.still, self.since = progress, 0, now
            return
        self.still += sum(state["sent"] for state in states) == sum(state["received"] for state in states)
        if self.still >= STILL or now - self.since > self.detector.deadline:
            words = "; ".join(f"worker {rank} {waits(state)}" for rank, state in enumerate(states))
            raise Mismatch(f"no two of these fit together, so nobody can go on: {words}")

    def refuse_the_late(self, now: float) -> None:
        """Print a line about workers that are busy, and raise TimedOut after the deadline."""
        me, deadline = self.detector.rank, self.detector.deadline
        states = {rank: self.states.get(rank, SILENT) for rank in range(self.detector.size)}
        late = {rank: state for rank, state in states.items() if not state["waiting"]}
        words = [f"worker {rank}, which is at {state['doing']} ({state['line']})" for rank, state in late.items()]
        if late and now - self.began > min(self.notice, deadline):
            self.notice *= 2
            waited = f"worker {me} has waited {now - self.began:.0f} s at {self.what} for "
            print(waited + "; ".join(words), *map(shown, late.items()), sep="\n", file=sys.stderr, flush=True)
        if late and now - self.began > deadline:
            raise TimedOut(me, str(self.what), words, deadline)


def waits(state: dict[str, Any]) -> str:
    """Return what a worker waits for, for people."""
    return state.get("where") or f"waits at {state['waiting']} in round {state['round']}"


def shown(late: tuple[int, dict[str, Any]]) -> str:
    """Return where all threads of a late worker are, one line each."""
    rank, state = late
    return "\n".join(f"  worker {rank} | {line}" for line in state["stacks"].splitlines())
