"""Which of MPI's processes have begun their run, have ended, or failed outside of one: MPI itself does not say.

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
from functools import cache
from typing import TYPE_CHECKING, Any

from loosestep.foundation import output
from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.transports.forks import Original
from loosestep.transports.processes.launchers import BY_LOOSESTEP, check_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

TAG = 32_111  # below the least bound that MPI promises; of the first messages, which go where the user's go
NAP, LONGEST_NAP = 1e-4, 1e-2  # seconds; a nap is a hundredth of the wait so far
NOTICE = 10.0  # seconds until the first line about ranks that are late; then at twice, four times, ... that time
LAST_WORDS = 1.0  # seconds for the others to hear of a failure


class Membership:
    """The processes that MPI started together, as one of them sees them.

    world, binding: MPI's communicator of all, and its module.
    ends: whether MPI's end is left to this object; else mpi4py enters it at exit, whatever others do.
    """

    def __init__(self, world: Any, binding: Any, *, ends: bool) -> None:
        self.world = self.comm = world
        self.binding, self.ends = binding, ends
        self.rank, self.size, self.original = world.rank, world.size, Original()
        self.runs = 0  # that were begun here
        self.begun = dict.fromkeys((rank for rank in range(self.size) if rank != self.rank), 0)  # ... and there
        self.gone: dict[int, str] = {}  # ranks that take part in no more runs, and why
        self.failed: set[int] = set()  # ... of whom these never come to MPI's end
        self.inside = 0  # runs that are open, which speak for themselves
        self.sends: list[Any] = []

    def attach(self) -> None:
        """Register the hooks for the end of the process and for exceptions that are not caught."""
        self.before, sys.excepthook = sys.excepthook, self.hook
        atexit.register(self.end)

    # --- a run begins ------------------------------------------------------------------------------------

    def begin(self, deadline: float) -> None:
        """Block until every process has begun this run; raise if one never will, or is late."""
        self.original.require(self.rank)
        self.runs += 1
        self.tell("begun", self.runs)
        self.until(self.all_begun, deadline)
        if self.runs == 1:  # from now on where no messages of the user are met
            self.comm = self.own(deadline)
        self.inside += 1

    def end_run(self) -> None:
        """Note that a run here has ended in order: after the last this object speaks for the process again."""
        self.inside -= 1

    def all_begun(self) -> bool:
        """Return whether all have begun this run; raise PeerFailed for one that never will."""
        missing = self.missing()
        for rank in missing:
            if rank in self.gone:
                raise PeerFailed(rank, self.gone[rank])
        return not missing

    def missing(self) -> list[int]:
        """Return the ranks that have not begun this run."""
        return [rank for rank, runs in self.begun.items() if runs < self.runs]

    def own(self, deadline: float) -> Any:
        """Return a new communicator, in which no messages of the user are met."""
        comm, request = self.comm.Idup()
        self.finish(request, deadline)
        return comm

    def finish(self, request: Any, deadline: float) -> None:
        """Complete a nonblocking collective of all processes."""
        try:
            self.until(request.Test, deadline)
        except self.binding.Exception as error:
            self.hear()
            dead = min(self.failed, default=-1)
            raise PeerFailed(dead, f"without a word ({error.Get_error_string()})") from error

    def until(self, ready: Callable[[], bool], deadline: float) -> None:
        """Block until `ready`, with a line now and then about ranks that have not begun."""
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
        """Send something to every rank that is there."""
        content = json.dumps([what, more]).encode()
        for rank in set(self.begun) - set(self.gone):
            with self.losing(rank):
                self.sends.append(self.comm.Isend([content, self.binding.BYTE], rank, TAG))

    def hear(self) -> None:
        """Note what has come. MPI reports a dead rank when it is asked for messages from it."""
        for rank in self.begun:
            with self.losing(rank):
                while rank not in self.gone and self.comm.Iprobe(rank, TAG):
                    self.note(rank, self.received(rank))

    def received(self, rank: int) -> Any:
        """Return the next message of a rank."""
        status = self.binding.Status()
        self.comm.Probe(rank, TAG, status)
        content = bytearray(status.Get_count(self.binding.BYTE))
        self.comm.Recv([content, self.binding.BYTE], rank, TAG)
        return json.loads(content)

    def note(self, rank: int, said: tuple[str, Any]) -> None:
        """Keep what a rank has sent."""
        what, more = said
        if what == "begun":
            self.begun[rank] = more
            return
        self.gone[rank] = self.ended(rank) if what == "ended" else more
        if what == "failed":
            self.failed.add(rank)

    def ended(self, rank: int) -> str:
        """Return why a rank whose script has ended takes part in no more runs."""
        runs = self.begun[rank]
        if not runs:
            return f"worker {rank} ended before its run began"
        return f"worker {rank} ended after {runs} run{'s' * (runs > 1)}, and others begin one more"

    @contextmanager
    def losing(self, rank: int) -> Iterator[None]:
        """Record the rank as dead if MPI reports an error inside this context."""
        try:
            yield
        except self.binding.Exception as error:
            self.gone.setdefault(rank, f"without a word ({error.Get_error_string()})")
            self.failed.add(rank)

    # --- the end -----------------------------------------------------------------------------------------

    def hook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Tell the others of an uncaught exception outside of a run, and end this process."""
        self.before(kind, error, trace)
        if not self.original.here or self.inside or self.binding.Is_finalized():
            return
        if not issubclass(kind, Exception):  # Ctrl-C reaches all others by itself
            return
        when = "after" if self.runs else "before"
        self.tell("failed", f"worker {self.rank} failed {when} its run: {kind.__name__}: {error}")
        until = time.monotonic() + LAST_WORDS
        while (
            self.is_sending() or self.gone
        ) and time.monotonic() < until:  # the rank that began it ends first, with its code
            time.sleep(NAP)
        leave(1)

    def is_sending(self) -> bool:
        """Return whether anything that was sent has not gone yet."""
        try:
            return not self.binding.Request.Testall(self.sends)
        except self.binding.Exception:  # a rank is dead; what was sent to others has had its time
            return False

    def end(self) -> None:
        """End MPI after the script, if all processes have come there; else leave its end out."""
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
        """Return whether another rank has begun a run in which this process will not be."""
        return any(runs > self.runs and rank not in self.gone for rank, runs in self.begun.items())


def leave(code: int) -> None:
    """End this process without MPI's end, which would wait for processes that never come there."""
    output.flush()
    os._exit(code)


@cache
def this_process() -> Membership:
    """Return this process's place among all that were started together; the first call joins them.

    MPI's end is left to it where this is the first import of mpi4py.
    """
    first = "mpi4py.MPI" not in sys.modules
    try:
        import mpi4py

        if first:
            mpi4py.rc.finalize = False
        from mpi4py import MPI as binding  # noqa: N811 - MPI is the name of a transport of ours
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"on=MPI() needs an MPI: pip install 'loosestep[mpi]' ({error})") from error
    found = Membership(binding.COMM_WORLD, binding, ends=first)
    found.attach()
    return found


def world() -> Any:
    """Return MPI's world of processes, which from the first call on hear of each other's beginnings and ends."""
    return this_process().world


def checked_world() -> Any:
    """Return MPI's world of processes if all that were started are in it. Raises RuntimeError else."""
    comm = world()
    wanted = os.environ.get(BY_LOOSESTEP)
    if wanted is not None and int(wanted) != comm.size:
        raise RuntimeError(
            f"started {wanted} ranks, but MPI knows of {comm.size}: mpiexec and mpi4py belong to different MPIs"
        )
    if comm.size == 1:
        check_alone("MPI knows of this process alone (or mpiexec and mpi4py belong to different MPIs)")
    return comm
