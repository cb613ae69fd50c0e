"""A listening socket with a thread that accepts; forked children close their copy of it.

A child must not keep a name or a port of its parent's, nor end what its parent serves.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

OWN: WeakSet[socket.socket] = WeakSet()
PATIENCE = 5.0  # seconds for the thread to notice that it shall end


class Listener:
    """Calls `serve` with every connection, in the thread that accepts, until it is closed."""

    def __init__(self, listening: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        self.listening, self.serve = listening, serve
        self.thread: threading.Thread | None = None
        close_in_children(listening)

    def start(self) -> None:
        """Begin to listen and to accept."""
        self.listening.listen(128)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop listening; the name or port is free afterwards."""
        if self.listening.fileno() < 0:
            return
        if self.thread is not None:
            with suppress(OSError):  # it was not listening any more
                self.listening.shutdown(socket.SHUT_RDWR)  # wakes the thread, which close() alone does not
            if self.thread is not threading.current_thread():
                self.thread.join(PATIENCE)
        self.listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self.listening.accept()
            except OSError:  # it was closed
                return
            self.serve(connected)


def close_in_children(own: socket.socket) -> None:
    """Let children that are forked from now on close their copy of a socket."""
    OWN.add(own)


def forget() -> None:
    """Close what is the parent's alone."""
    for own in list(OWN):
        own.close()
    OWN.clear()


os.register_at_fork(after_in_child=forget)
