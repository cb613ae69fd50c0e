"""ZeroMQ's sockets, with the job's key: whoever has another one, or none, is refused before a message is read."""

from __future__ import annotations

import os
from contextlib import nullcontext
from hashlib import blake2b
from typing import Any, NamedTuple

import zmq
from zmq.utils import z85

from loosestep.transports.zmq.cores import Cores
from loosestep.transports.zmq.place import KEY

GATE = "inproc://zeromq.zap.01"  # where libzmq asks who may come in, says RFC 27
BACKLOG = 1024  # connections that may come at once


class Key(NamedTuple):
    """The key pair that all processes of a job derive from its secret, as ZeroMQ's text."""

    public: bytes
    secret: bytes

    @classmethod
    def of(cls, text: str) -> Key:
        """Return the key pair of a secret text."""
        secret = z85.encode(blake2b(text.encode(), digest_size=32, person=b"loosestep zmq").digest())
        return cls(zmq.curve_public(secret), secret)


class Sockets:
    """Makes this process's sockets.

    With a key every connection is by CURVE: each side proves that it has the key pair, and what they send is
    encrypted. libzmq asks at the gate about each that wants in, so `admit` is to be called now and then.
    """

    def __init__(self, secret: str | None) -> None:
        secret = secret or os.environ.get(KEY)
        if secret and not zmq.has("curve"):
            raise RuntimeError(f"a key was given, but this libzmq {zmq.zmq_version()} was built without CURVE")
        self.key = Key.of(secret) if secret else None
        self.context, self.made, self.cores = zmq.Context(), list[Any](), Cores()
        self.gate: Any = None
        self.refused = 0  # strangers at the gate
        if self.key is not None:
            self.gate = self.make(zmq.ROUTER)
            self.gate.bind(GATE)

    def make(self, kind: int) -> Any:
        """Return a new socket, which lives until all are closed."""
        with nullcontext() if self.made else self.cores.noting():  # libzmq starts its threads with the first one
            self.made.append(self.context.socket(kind))
        return self.made[-1]

    def server(self, largest: int) -> Any:
        """Return a ROUTER that others connect to; a longer message than `largest` bytes ends its connection."""
        socket = self.make(zmq.ROUTER)
        socket.set(zmq.BACKLOG, BACKLOG)
        socket.set(zmq.MAXMSGSIZE, largest)
        if self.key is not None:
            socket.curve_server = True
            socket.curve_secretkey, socket.curve_publickey = self.key.secret, self.key.public
        return socket

    def client(self) -> Any:
        """Return a DEALER that connects to a server."""
        socket = self.make(zmq.DEALER)
        if self.key is not None:
            socket.curve_serverkey = self.key.public
            socket.curve_secretkey, socket.curve_publickey = self.key.secret, self.key.public
        return socket

    def admit(self) -> None:
        """Answer libzmq's questions about who wants in."""
        if self.gate is None or self.key is None:
            return
        while self.gate.poll(0):
            *route, version, number, _domain, _address, _identity, _mechanism, shown = self.gate.recv_multipart()
            known = z85.encode(shown) == self.key.public
            self.refused += not known
            status, text = (b"200", b"OK") if known else (b"400", b"another key")
            self.gate.send_multipart([*route, version, number, status, text, b"", b""])

    def close(self, seconds: float) -> None:
        """Give everything back, after so many seconds at most for what is on its way."""
        self.context.destroy(linger=round(1000 * seconds))
