"""Looking after the others while waiting for them: tells dead, mismatched and busy workers apart."""

from __future__ import annotations

import sys
import time
from math import inf
from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import Mismatch, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.requests import Request
    from loosestep.transports.mpi.progress import Post

LOOK = 1.0  # seconds between two questions
STILL = 3  # looks at which nothing moved anywhere before that counts as a mismatch
NOTICE = 10.0  # seconds until the first line about those who are waited for; each next wait is twice as long
SILENT = {"waiting": "", "doing": "native code that holds its Python", "line": "it does not answer", "stacks": ""}


class Watch:
    """One wait of one worker.

    Dead: no sign of life for `silence` seconds. Mismatched: everybody waits, nothing is under way, and that
    stays so. Busy: in the user's code; waited for, for `deadline` seconds, with a line now and then.
    """

    def __init__(
        self,
        post: Post,
        what: str | Request,
        heard: Callable[[int], float],
        silence: float,
        deadline: float,
    ) -> None:
        self.post, self.what, self.heard = post, what, heard  # in words only where they are said: a wait is short
        self.silence, self.deadline = silence, deadline
        self.began = self.asked = time.monotonic()
        self.notice = NOTICE
        self.questioned = inf  # when the question that is open was asked
        self.states: dict[int, Any] = {}
        self.still, self.before = 0, ""

    def look(self) -> None:
        """Ask, once a second, how the others are; raise if waiting is in vain."""
        now = time.monotonic()
        if now - self.asked < LOOK:
            return
        self.asked = now
        self.refuse_the_dead(now)
        answered = len(self.states) == self.post.size
        if answered:
            self.refuse_a_mismatch()
        if answered or now - self.questioned > self.silence:
            self.refuse_the_late(now)
        if answered or self.questioned == inf:
            self.states, self.questioned = {}, now
            self.post.ask_all("state", None, self.states)

    def refuse_the_dead(self, now: float) -> None:
        others = (rank for rank in range(self.post.size) if rank != self.post.rank)
        dead = [rank for rank in others if now - max(self.began, self.heard(rank)) > self.silence]
        if dead:
            words = [f"worker {rank}, which shows no sign of life (dead, stopped, or cut off)" for rank in dead]
            raise TimedOut(self.post.rank, str(self.what), words, self.silence)

    def refuse_a_mismatch(self) -> None:
        """Everybody waits, and nothing moved since the look before."""
        states = list(self.states.values())
        stuck = all(state["waiting"] and not state["busy"] for state in states)
        seen = str([(state["turns"], state["waiting"]) for state in states])
        self.still = self.still + 1 if stuck and seen == self.before else 0
        self.before = seen
        if self.still >= STILL:
            words = "; ".join(f"worker {rank} {waits(state)}" for rank, state in sorted(self.states.items()))
            raise Mismatch(f"no two of these fit together, so nobody can go on: {words}")

    def refuse_the_late(self, now: float) -> None:
        states = {rank: self.states.get(rank, SILENT) for rank in range(self.post.size)}
        late = {rank: state for rank, state in states.items() if not state["waiting"]}
        words = [f"worker {rank}, which is at {state['doing']} ({state['line']})" for rank, state in late.items()]
        if late and now - self.began > min(self.notice, self.deadline):
            self.notice *= 2
            waited = f"worker {self.post.rank} has waited {now - self.began:.0f} s at {self.what} for "
            print(waited + "; ".join(words), *map(shown, late.items()), sep="\n", file=sys.stderr, flush=True)
        if late and now - self.began > self.deadline:
            raise TimedOut(self.post.rank, str(self.what), words, self.deadline)


def waits(state: dict[str, Any]) -> str:
    """One waiting worker, for people."""
    return f"waits at {state['waiting']} in round {state['round']}"


def shown(late: tuple[int, dict[str, Any]]) -> str:
    """Where all threads of a late worker are."""
    rank, state = late
    return "\n".join(f"  worker {rank} | {line}" for line in state["stacks"].splitlines())
