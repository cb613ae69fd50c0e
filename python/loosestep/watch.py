"""Looking after the others while waiting for them: tells dead, mismatched and busy workers apart."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from loosestep.errors import Mismatch, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.post import Post
    from loosestep.requests import Request

LOOK = 1.0  # seconds between two questions
STILL = 3  # looks at which nothing moved anywhere before that counts as a mismatch
NOTICE = 30.0  # seconds between two lines about those who are waited for


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
        self.told = self.began
        self.states: dict[int, Any] = {}
        self.still, self.before = 0, ""

    def look(self) -> None:
        """Ask, once a second, how the others are; raise if waiting is in vain."""
        now = time.monotonic()
        if now - self.asked < LOOK:
            return
        self.asked = now
        self.refuse_the_dead(now)
        if len(self.states) == self.post.size:
            self.refuse_a_mismatch()
            self.refuse_the_late(now)
        self.states = {}
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
        late = {rank: state for rank, state in self.states.items() if not state["waiting"]}
        words = [f"worker {rank}, which is at {state['doing']} ({state['line']})" for rank, state in late.items()]
        if late and now - self.began > self.deadline:
            raise TimedOut(self.post.rank, str(self.what), words, self.deadline)
        if late and now - self.told > NOTICE:
            self.told = now
            waited = f"worker {self.post.rank} has waited {now - self.began:.0f} s at {self.what} for "
            print(waited + "; ".join(words), file=sys.stderr, flush=True)


def waits(state: dict[str, Any]) -> str:
    """One waiting worker, for people."""
    return f"waits at {state['waiting']} in round {state['round']}"
