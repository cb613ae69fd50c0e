"""Who of MPI's processes has begun its run, has ended, or has failed outside of one: what MPI itself does not say.

MPI's own end waits for every process, and so does the first collective: a process that ends before its run would
leave the others there, and itself, for ever. So every process says by a short message when it begins a run, when
an exception ends it outside of one, and when its script has ended; and it enters MPI's end when all others do.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.transports.forks import Original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

TAG = 32_111  # below the least bound that MPI promises; of the first messages, which go where the user's go
NAP, LONGEST_NAP = 1e-4, 1e-2  # seconds; a nap is a hundredth of the wait so far
NOTICE = 10.0  # seconds until the first line about those who are waited for; each next wait is twice as long
LAST_WORDS = 1.0  # seconds for the others to hear of a failure


class Company:
    """All processes that MPI started together, as one of them sees them.

    world, binding: MPI's communicator of all, and its module.
    ends: whether MPI's end is left to this object; else mpi4py enters it at exit, whatever others do.
    """

    def __init__(self, world: Any, binding: Any, *, ends: bool) -> None:
        self.world = self.comm = world
        self.binding, self.ends = binding, ends
        self.rank, self.size, self.original = world.rank, world.size, Original()
        self.runs = 0  # that were begun here
        self.begun = dict.fromkeys((rank for rank in range(self.size) if rank != self.rank), 0)  # ... and there
        self.gone: dict[int, str] = {}  # who takes part in no more runs, and why
        self.failed: set[int] = set()  # ... of whom these never come to MPI's end
        self.inside = False  # a run is open, which speaks for itself
        self.sends: list[Any] = []

    def attach(self) -> None:
        """Hear of this process's end, and of an exception that nobody catches."""
        self.before, sys.excepthook = sys.excepthook, self.hook
        atexit.register(self.end)

    # --- a run begins ------------------------------------------------------------------------------------

    def begin(self, deadline: float) -> None:
        """Block until every process has begun this run; raise if one never will, or is late."""
        self.original.require(self.rank)
        self.runs += 1
        self.tell("begun", self.runs)
        self.until(self.all_begun, deadline)
        if self.runs == 1:  # from now on where nobody else's messages are met
            self.comm = self.own(deadline)
        self.inside = True

    def all_begun(self) -> bool:
        missing = self.missing()
        for rank in missing:
            if rank in self.gone:
                raise PeerFailed(rank, self.gone[rank])
        return not missing

    def missing(self) -> list[int]:
        return [rank for rank, runs in self.begun.items() if runs < self.runs]

    def own(self, deadline: float) -> Any:
        """A communicator of our own, so that nobody else's messages are met."""
        comm, request = self.comm.Idup()
        self.finish(request, deadline)
        return comm

    def finish(self, request: Any, deadline: float) -> None:
        """What all processes take part in when they begin."""
        try:
            self.until(request.Test, deadline)
        except self.binding.Exception as error:
            self.hear()
            dead = min(self.failed, default=-1)
            raise PeerFailed(dead, f"without a word ({error.Get_error_string()})") from error

    def until(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait, with a line now and then about those who have not begun."""
        began, notice = time.monotonic(), NOTICE
        while not ready():
            self.hear()
            waited = time.monotonic() - began
            words = [f"worker {rank}, which has not begun its run" for rank in self.missing()]
            words = words or ["all others to begin"]
            if waited > deadline:
                raise TimedOut(self.rank, "its beginning", words, deadline)
            if waited > notice:
                notice *= 2
                said = f"worker {self.rank} has waited {waited:.0f} s at its beginning for {'; '.join(words)}"
                print(said, file=sys.stderr, flush=True)
            time.sleep(min(max(NAP, waited / 100), LONGEST_NAP))

    # --- messages ----------------------------------------------------------------------------------------

    def tell(self, what: str, more: Any = None) -> None:
        """Say something to all who are there."""
        content = json.dumps([what, more]).encode()
        for rank in set(self.begun) - set(self.gone):
            with self.losing(rank):
                self.sends.append(self.comm.Isend([content, self.binding.BYTE], rank, TAG))

    def hear(self) -> None:
        """Note what has come; who is dead, MPI says when it is asked for what comes from there."""
        for rank in self.begun:
            with self.losing(rank):
                while rank not in self.gone and self.comm.Iprobe(rank, TAG):
                    self.note(rank, self.received(rank))

    def received(self, rank: int) -> Any:
        status = self.binding.Status()
        self.comm.Probe(rank, TAG, status)
        content = bytearray(status.Get_count(self.binding.BYTE))
        self.comm.Recv([content, self.binding.BYTE], rank, TAG)
        return json.loads(content)

    def note(self, rank: int, said: tuple[str, Any]) -> None:
        what, more = said
        if what == "begun":
            self.begun[rank] = more
            return
        self.gone[rank] = self.ended(rank) if what == "ended" else more
        if what == "failed":
            self.failed.add(rank)

    def ended(self, rank: int) -> str:
        """Why that one takes part in no more runs, where its script has ended."""
        runs = self.begun[rank]
        if not runs:
            return f"worker {rank} ended before its run began"
        return f"worker {rank} ended after {runs} run{'s' * (runs > 1)}, and others begin one more"

    @contextmanager
    def losing(self, rank: int) -> Iterator[None]:
        """MPI's error in what is done with that rank means that it is dead."""
        try:
            yield
        except self.binding.Exception as error:
            self.gone.setdefault(rank, f"without a word ({error.Get_error_string()})")
            self.failed.add(rank)

    # --- the end -----------------------------------------------------------------------------------------

    def hook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """An exception that nobody catches, outside of a run: the others hear of it, and this process ends."""
        self.before(kind, error, trace)
        if not self.original.here or self.inside or self.binding.Is_finalized():
            return
        if not issubclass(kind, Exception):  # Ctrl-C reaches all others by itself
            return
        when = "after" if self.runs else "before"
        self.tell("failed", f"worker {self.rank} failed {when} its run: {kind.__name__}: {error}")
        until = time.monotonic() + LAST_WORDS
        while (
            self.under_way() or self.gone
        ) and time.monotonic() < until:  # who began it ends first, with its code
            time.sleep(NAP)
        leave(1)

    def under_way(self) -> bool:
        """Whether anything that was said has not gone yet."""
        try:
            return not self.binding.Request.Testall(self.sends)
        except self.binding.Exception:  # somebody is dead; what was said to others has had its time
            return False

    def end(self) -> None:
        """The script has ended. MPI's end is for when all have come there; else it is left out."""
        if not self.original.here:  # none of MPI's processes
            if not self.ends:
                leave(0)
            return
        if self.binding.Is_finalized():
            return
        self.tell("ended")
        began = time.monotonic()
        while not self.failed and len(self.gone) < len(self.begun) and not self.is_missed():
            time.sleep(min(max(NAP, (time.monotonic() - began) / 100), LONGEST_NAP))
            self.hear()
        whole = len(self.gone) == len(self.begun) and not self.failed
        if self.ends and whole:
            self.binding.Finalize()
        elif not self.ends and not whole:
            leave(1)

    def is_missed(self) -> bool:
        """Whether another has begun a run in which this process will not be."""
        return any(runs > self.runs and rank not in self.gone for rank, runs in self.begun.items())


def leave(code: int) -> None:
    """End this process without MPI's end, which would wait for those who never come there."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
