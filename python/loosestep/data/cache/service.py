"""A host's part of a partitioned cache: it answers the processes of other hosts, and asks their hosts."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Sequence

from loosestep.data.cache.frames import Link, Refused
from loosestep.data.cache.store import Store
from loosestep.data.shared_memory.listener import Listener, close_in_children

GET, PUT, HIT, MISS, DONE = b"G", b"P", b"H", b"M", b"D"
REQUEST = struct.Struct("<QQ")  # the number of samples, and which of them
ROOM = struct.Struct("<Q")
MOST = 1 << 32  # bytes of a sample
GREETING = 5.0  # seconds for another to show that it has the key
IDLE = 3600.0  # seconds after which a silent connection is closed; it is made again when it is wanted
RETRY = 30.0  # seconds until a host that failed is asked again
CONNECTIONS = 1024

Address = tuple[str, int]


class Service:
    """Answers at an address, by a thread for each connection, until it is closed or this process ends."""

    def __init__(self, address: Address, key: bytes, store: Store) -> None:
        self.key, self.store = key, store
        try:
            listening = socket.create_server(address, backlog=128, family=family(address))
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            told = f"this host's part of the cache cannot answer at {where}: {os.strerror(error.errno or 0)}"
            raise OSError(error.errno, f"{told}; give hosts= an address of this host and a free port") from error
        self.connections: set[socket.socket] = set()
        self.pid = os.getpid()
        self.listener = Listener(listening, self._begin)
        self.listener.start()

    def close(self) -> None:
        """Answer nobody any more. A forked child's copy of the cache closes nothing of its parent's."""
        if self.pid != os.getpid():
            return
        self.listener.close()
        for connected in list(self.connections):
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side has gone
                continue

    def _begin(self, connected: socket.socket) -> None:
        if len(self.connections) >= CONNECTIONS:
            connected.close()
            return
        self.connections.add(connected)
        close_in_children(connected)
        threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        """Answer one process until it goes, says nonsense, or has another key."""
        try:
            with connected:
                connected.settimeout(GREETING)
                link = Link(connected, self.key, server=True)
                connected.settimeout(IDLE)
                while True:
                    self.answer(link)
        except (OSError, Refused, MemoryError, ValueError):
            return  # only that connection ends, and the other side sees that it does
        finally:
            self.connections.discard(connected)

    def answer(self, link: Link) -> None:
        """Answer one request: GET a sample, or PUT one."""
        request = link.receive(1 + REQUEST.size + min(MOST, self.store.capacity))
        items, number = REQUEST.unpack_from(request, 1)
        if items != self.store.items or number >= items:
            raise ValueError("another data set")
        kind, content = bytes(request[:1]), memoryview(request)[1 + REQUEST.size :]
        if kind == PUT:
            link.send(DONE if self.store.put(number, content) else MISS)
        elif (found := self.store.get(number)) is not None:
            link.send(HIT, found)
        else:
            link.send(MISS, ROOM.pack(self.store.room))


class Peers:
    """The other hosts, as this process asks them. A host that does not answer is left alone for a while."""

    def __init__(
        self,
        hosts: Sequence[Address],
        me: int,
        key: bytes,
        items: int,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hosts, self.me, self.key, self.items, self.deadline, self.clock = (
            hosts,
            me,
            key,
            items,
            deadline,
            clock,
        )
        self._begin()

    def _begin(self) -> None:
        """Have no connections, in this process."""
        self.pid, self.guard = os.getpid(), threading.Lock()
        self.links: dict[int, Link] = {}
        self.again: dict[int, float] = {}

    def owner(self, number: int) -> int:
        """Return the one host whose memory may hold a sample."""
        return number % len(self.hosts)

    def get(self, number: int) -> tuple[bytearray | None, int]:
        """Return a sample from its host, or None and how many bytes it has room for.

        Raises OSError or Refused if it cannot be asked.
        """
        answer = self._ask(self.owner(number), GET + REQUEST.pack(self.items, number))
        if answer[:1] == HIT:
            return answer[1:], 0
        return None, ROOM.unpack_from(answer, 1)[0]

    def put(self, number: int, content: bytes) -> None:
        """Give a sample to its host."""
        self._ask(self.owner(number), PUT + REQUEST.pack(self.items, number), content)

    def _ask(self, host: int, *request: bytes) -> bytearray:
        if self.pid != os.getpid():  # a forked worker makes connections of its own
            self.close()
            self._begin()
        with self.guard:
            if self.again.get(host, 0.0) > self.clock():
                raise ConnectionError("it did not answer a moment ago")
            try:
                link = self.links.get(host) or self._connect(host)
                link.send(*request)
                return link.receive(MOST)
            except (OSError, Refused) as error:
                self.again[host] = self.clock() + RETRY
                gone = self.links.pop(host, None)
                if gone is not None:
                    gone.close()
                where = "{}:{}".format(*self.hosts[host])
                warnings.warn(
                    f"host {host} of the cache, at {where}, does not answer ({error}); for {RETRY:g} s its "
                    "samples are read from the data set",
                    RuntimeWarning,
                    stacklevel=2,
                )
                raise

    def _connect(self, host: int) -> Link:
        connected = socket.create_connection(self.hosts[host], timeout=self.deadline)
        try:
            self.links[host] = Link(connected, self.key, server=False)
        except BaseException:
            connected.close()
            raise
        return self.links[host]

    def close(self) -> None:
        """End this process's connections."""
        for link in self.links.values():
            link.close()
        self.links.clear()


def family(address: Address) -> socket.AddressFamily:
    """Return IPv6's family for an address with colons."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def parsed(host: str) -> Address:
    """Return the address in "name:port". Raises ValueError where there is none."""
    name, colon, port = host.rpartition(":")
    if not colon or not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"hosts must be addresses with a port, as '10.0.0.1:29600', got {host!r}")
    return name.strip("[]"), int(port)
