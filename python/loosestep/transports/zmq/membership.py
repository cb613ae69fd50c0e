"""Which processes of a job have begun their run, have ended, or failed outside of one; one object in each process.

The connections are made when the first run begins and last until the process ends. A process says when it begins a
run, when an exception ends it outside of one, and when its script has ended, and the others do not wait for it.
"""

from __future__ import annotations

import atexit
import json
import socket
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.foundation.errors import PeerFailed
from loosestep.transports.forks import Original
from loosestep.transports.processes.hosts import grouped, marks
from loosestep.transports.zmq.peers import LOOK, NO_RUN, Outgoing, Peers
from loosestep.transports.zmq.rendezvous import Patience, excuse, meet
from loosestep.transports.zmq.runs import Runs
from loosestep.transports.zmq.sockets import Sockets

if TYPE_CHECKING:
    from types import TracebackType

    from loosestep.transports.zmq.place import Place

NAP = 1  # milliseconds
FAREWELL = 2.0  # seconds for last messages to go out


class Membership:
    """The processes of one job, as one of them sees them."""

    def __init__(self, place: Place, key: str | None) -> None:
        self.place, self.rank, self.size, self.original = place, place.rank, place.size, Original()
        self.sockets = Sockets(key)
        self.peers = Peers(self.sockets, self.rank, self.size, local=place.local)
        self.table = Runs(self.peers, self.note)
        self.begun = {rank: 0 for rank in range(self.size) if rank != self.rank}  # runs, there
        self.gone: dict[int, str] = {}  # ranks that take part in no more runs, and why
        self.outgoing: dict[int, Outgoing] = {}  # of what belongs to no run
        self.joined = False

    def attach(self) -> None:
        """Register the hooks for the end of the process and for exceptions that are not caught."""
        self.before, sys.excepthook = sys.excepthook, self.hook
        atexit.register(self.end)

    # --- a run begins ------------------------------------------------------------------------------------

    def begin(self, deadline: float) -> bytes:
        """Block until all have begun one more run, and return its mark; raise if one will not, or is late."""
        self.original.require(self.rank)
        clock = Patience(self.rank, deadline)
        if not self.joined:
            self.join(deadline)
        mark = self.table.open()
        try:
            self.tell("begun", self.runs)
            while missing := [rank for rank, runs in self.begun.items() if runs < self.runs]:
                came = self.hear()
                for rank in missing:
                    self.refuse(rank)
                clock.check([f"worker {rank}, which has not begun its run" for rank in missing])
                if not came:
                    self.table.rest(mark, ())
        except BaseException:
            self.table.close(mark)
            raise
        return mark

    @property
    def runs(self) -> int:
        """How many runs were begun here."""
        return self.table.count

    @property
    def inside(self) -> bool:
        """Whether a run is open, which speaks for itself."""
        return bool(self.table.inboxes)

    def join(self, deadline: float) -> None:
        """Meet the others, and connect with them."""
        host, network = marks()
        card = {"marks": [host.hex(), network.hex()], "address": self.address(), "port": self.peers.port}
        token, cards = meet(self.sockets, self.place, card, deadline)
        found = [(bytes.fromhex(one["marks"][0]), bytes.fromhex(one["marks"][1])) for one in cards]
        self.hosts, self.local = grouped(found)
        near = [net == network for _, net in found]
        ends = [
            f"tcp://{'127.0.0.1' if here else one['address']}:{one['port']}"
            for one, here in zip(cards, near, strict=True)
        ]
        self.peers.connect(token, ends)
        self.outgoing = {rank: Outgoing(socket) for rank, socket in self.peers.ways.items()}
        self.joined = True

    def address(self) -> str:
        """Return the address at which this machine can be reached from where rank 0 is met."""
        if self.place.local or not self.place.endpoints:
            return "127.0.0.1"
        host, _, port = self.place.endpoints[0].removeprefix("tcp://").rpartition(":")
        try:
            mine = source_address(host, int(port))
        except OSError as error:
            raise OSError(f"worker {self.rank} cannot reach {host}, where rank 0 is to be met: {error}") from error
        outer = [each for each in _core.Pulse.addresses() if not each.startswith("127.")]
        return outer[0] if mine.startswith("127.") and outer else mine

    def refuse(self, rank: int) -> None:
        """Raise PeerFailed for a process that will not begin this run."""
        if rank in self.gone:
            raise PeerFailed(rank, self.gone[rank])
        if rank in self.peers.lost:
            raise PeerFailed(rank, "without a word (its connection is closed)")

    def end_run(self, mark: bytes) -> None:
        """Note that a run has ended here: after the last one this object speaks for the process again."""
        self.table.close(mark)

    # --- messages ----------------------------------------------------------------------------------------

    def tell(self, what: str, more: Any = None) -> None:
        """Send something to every rank that is there."""
        message = NO_RUN + json.dumps([what, more]).encode()
        with self.table.lock:
            for rank, outgoing in self.outgoing.items():
                if rank not in self.gone and rank not in self.peers.lost:
                    outgoing.send(message)

    def hear(self) -> bool:
        """Note what has come, and hand on what belongs to runs; return whether anything came."""
        came = self.table.serve()
        self.look()
        return came

    def look(self) -> None:
        """Look after the connections, now and then, and send what has found no room."""
        if time.monotonic() - self.peers.looked > LOOK:
            with self.table.lock:
                self.peers.look()
                for outgoing in self.outgoing.values():
                    outgoing.flush()

    def note(self, source: int, content: bytes) -> None:
        """Keep what a rank has said of itself."""
        what, more = json.loads(content[len(NO_RUN) :])
        if what == "begun":
            self.begun[source] = more
        else:
            self.gone.setdefault(source, self.ended(source) if what == "ended" else more)

    def ended(self, rank: int) -> str:
        """Return why a rank whose script has ended takes part in no more runs."""
        runs = self.begun[rank]
        return f"worker {rank} ended after {runs} run{'s' * (runs > 1)}, and others begin one more"

    # --- the end -----------------------------------------------------------------------------------------

    def hook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Tell the others of an uncaught exception outside of a run."""
        self.before(kind, error, trace)
        if self.original.here and not self.inside and issubclass(kind, Exception):
            when = "after" if self.runs else "before"
            words = f"worker {self.rank} failed {when} its run: {kind.__name__}: {error}"
            if self.joined:
                self.say_last("failed", words)
            else:
                excuse(self.sockets, self.place, words)

    def end(self) -> None:
        """Tell the others that the script has ended, and give the connections back."""
        if self.original.here and not self.inside:  # a run that is open has a thread that uses the connections
            self.say_last("ended", None)
            self.sockets.close(FAREWELL)

    def say_last(self, what: str, more: Any) -> None:
        """Tell the others, and let what waits go out."""
        self.tell(what, more)
        until = time.monotonic() + FAREWELL
        waiting = [each for rank, each in self.outgoing.items() if rank not in self.peers.lost]
        while waiting and time.monotonic() < until:
            with self.table.lock:
                waiting = [each for each in waiting if not each.flush()]
            if waiting:
                time.sleep(NAP * 1e-3)


def source_address(host: str, port: int) -> str:
    """Return the address from which this machine reaches another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])


@cache
def this_process() -> dict[str, Membership]:
    """Return the one membership of this process, once it has joined; the first call makes the place for it."""
    return {}


def membership(place: Place, key: str | None) -> Membership:
    """Return this process's membership of its job; the first call makes it."""
    known = this_process()
    if not known:
        known["job"] = Membership(place, key)
        known["job"].attach()
    found = known["job"]
    if found.place != place:
        raise RuntimeError(
            f"this process is rank {found.rank} of {found.size} at {found.place.job}, and cannot be rank "
            f"{place.rank} of {place.size} at {place.job} as well"
        )
    return found
