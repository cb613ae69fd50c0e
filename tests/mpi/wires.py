"""Sessions of several workers without MPI, each of which can be stopped: threads over memory, in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.unit.wire import MemoryWire, Net

from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.multi_host import Messages
from loosestep.transports.processes.session import ProcessSession
from loosestep.transports.processes.shards import Shards


class MachineClock:
    """The machine's own time, for a net whose ends are in threads."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @property
    def now(self) -> float:
        return time.monotonic()


def together(actions: Sequence[Callable[[], Any]], seconds: float = 60) -> list[Any]:
    """What each returns or raises, all at once in threads."""
    came: list[Any] = [None] * len(actions)

    def act(place: int) -> None:
        try:
            came[place] = actions[place]()
        except BaseException as error:
            came[place] = error

    threads = [threading.Thread(target=act, args=(place,), daemon=True) for place in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), f"{thread} still waits after {seconds} s"
    return came


@contextmanager
def sessions(
    size: int, heartbeat_timeout: float = 60, deadline: float = 60
) -> Iterator[tuple[list[ProcessSession], Net]]:
    """So many workers' sessions, joined."""
    net = Net(size, inline=1 << 30, clock=MachineClock())
    hosts = tuple((rank,) for rank in range(size))

    def make(end: MemoryWire) -> ProcessSession:
        mailbox = Mailbox(end)
        return ProcessSession(mailbox, Messages(), Shards(mailbox), None, hosts, heartbeat_timeout, deadline)

    made = together([lambda end=end: make(end) for end in net.ends])
    assert all(isinstance(each, ProcessSession) for each in made), made
    try:
        yield made, net
    finally:
        for session in made:
            session.engine.closing.set()
        for session in reversed(made):
            session.engine.thread.join(5)
        for session in made:
            session.hook.remove()
