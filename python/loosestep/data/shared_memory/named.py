"""Shared memory that processes of one user on one host find by a name, without a file that could be left behind.

The first one makes it and hands its descriptor, at an abstract Unix socket, to those that come later. The name is
free again when the first one has ended; those that have the memory keep it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable

from loosestep.data.shared_memory.listener import Listener
from loosestep.data.shared_memory.segment import Segment

NAP = 0.01
LONGEST = 100  # bytes of an address
MARK = b"loosestep"


class Named:
    """The memory of that name, made by `make` if this process is the first (`first`).

    Raises TimeoutError if the first one does not hand it out in time, PermissionError if it is another user's.
    """

    def __init__(self, name: str, make: Callable[[], Segment], seconds: float = 30.0) -> None:
        self.address = f"\0loosestep/{os.getuid()}/{name}"
        if (more := len(self.address.encode()) - LONGEST) > 0:
            raise ValueError(f"name must be shorter by {more} characters, got {name!r}")
        self.listener: Listener | None = None
        until = time.monotonic() + seconds
        while True:
            if self._bind():
                self.segment = self._made(make)
                return
            found = self._ask(until)
            if found is not None:
                self.segment = found
                return
            if time.monotonic() > until:
                raise TimeoutError(
                    f"the process that made the shared memory {name!r} has not handed it out for {seconds:g} s: "
                    "it is probably stopped"
                )
            time.sleep(NAP)

    @property
    def first(self) -> bool:
        """Whether this process made it."""
        return self.listener is not None

    def _bind(self) -> bool:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(self.address)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self.listener = Listener(listening, self._hand_out)
        return True

    def _made(self, make: Callable[[], Segment]) -> Segment:
        assert self.listener is not None
        try:
            segment = make()
        except BaseException:
            self.close()
            raise
        self.fd = segment.fd
        self.listener.start()
        return segment

    def _hand_out(self, asking: socket.socket) -> None:
        """Send the descriptor to a process of this user."""
        with asking:
            asking.settimeout(1.0)
            if user_of(asking) in (os.getuid(), 0):
                try:
                    socket.send_fds(asking, [MARK], [self.fd])
                except OSError:  # the one that asked has ended
                    return

    def _ask(self, until: float) -> Segment | None:
        """Return the memory, None while the first one has not made it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(max(0.1, until - time.monotonic()))
            try:
                asking.connect(self.address)
                if user_of(asking) != os.getuid():
                    raise PermissionError(f"another user's process has the name {self.address[1:]}")
                message, fds, _, _ = socket.recv_fds(asking, len(MARK), 1)
            except (ConnectionError, TimeoutError, BlockingIOError):
                return None
            return Segment.of(fds[0]) if message == MARK and fds else None

    def close(self) -> None:
        """Give up the name; the memory lasts as long as anybody has it."""
        if self.listener is not None:
            self.listener.close()


def user_of(connected: socket.socket) -> int:
    """Return the user whose process is at the other end."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])
