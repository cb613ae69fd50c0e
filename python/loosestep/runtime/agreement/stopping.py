"""When all workers of a loop stop: after one step, at a signal or at the wish of any of them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from loosestep.runtime.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.runtime.user_loop import Loop


class Stopping:
    """The step after which all workers are to stop; it is one that none of them has begun.

    1. A worker that asks writes the step that it may make next, then reads whether a stop was asked for.
    2. So if it finds that none was, it wrote its step before, and the largest of all steps includes it.
    3. If one was asked for it waits until that largest step is known to all.

    The first call of `now` in the main thread takes over Ctrl-C and SIGTERM, until `close`. Where a worker is
    several processes `largest` gives each the largest number of them, so that they answer alike.
    """

    def __init__(self, loop: Loop) -> None:
        self.worker, self.loop = loop.worker, loop
        self.next_step = 0
        self.asked = False
        self.after: int | None = None  # the step
        self.signals: ExitStack | None = None
        self.largest: Callable[[int], int] = lambda number: number
        session = loop.connection.session  # last: a worker that began earlier may have asked already
        self.begin, self.wait = session.stop_protocol(self.prepare, self.decide), session.await_stop

    def prepare(self) -> int:
        """Let this worker wait for the decision; return the step that it may have begun."""
        self.asked = True
        return 0 if self.loop.over else self.next_step

    def decide(self, step: int) -> None:
        """Take the step that all have found; of two decisions the first counts."""
        if self.after is None:
            self.after = step

    def ask(self) -> None:
        """Ask all workers to stop. It never waits: a signal handler may call it."""
        if not self.asked and not self.loop.over:
            self.begin()

    def now(self) -> bool:
        """Return whether this worker has made the step after which all stop."""
        if self.signals is None:
            self.signals = ExitStack()
            self.signals.enter_context(interruptible(lambda number: self.ask()))
        self.next_step = self.worker.clock + 1
        if not self.loop.over and self.largest(self.asked):  # a process that was not asked yet asks by itself
            self.ask()
            if self.after is None:
                self.wait(lambda: self.after is not None)
            self.after = self.largest(self.after or 0)
        return self.after is not None and self.worker.clock >= self.after

    def close(self) -> None:
        """Let signals do what they did before."""
        if self.signals is not None:
            self.signals.close()
