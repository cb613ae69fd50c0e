"""Messages between hosts that prove by a common key who they are from. They are not encrypted.

At the beginning each side sends a random number, and proves by a keyed hash of both numbers that it has the key.
Then every message has a number of its own and a hash under a key of this connection: nothing can be forged,
changed, left out or sent again unnoticed.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
from hashlib import blake2b

from loosestep.foundation.errors import LoosestepError

NONCE = TAG = 32
SMALL = 1 << 16  # bytes that are copied to be sent at once
HEAD = struct.Struct("<Q")
MARK = b"loosestep cache 1"
ROLES = (b"server", b"client")


class Refused(LoosestepError):
    """The other side has another key, or does not speak as a cache does."""


class Link:
    """A connection between two that have the same key. Raises Refused where the other has not."""

    def __init__(self, connected: socket.socket, key: bytes, *, server: bool) -> None:
        self.socket = connected
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        mine, theirs = ROLES if server else ROLES[::-1]
        nonce = os.urandom(NONCE)
        connected.sendall(MARK + nonce)
        mark, other = self._exactly(len(MARK)), self._exactly(NONCE)
        if mark != MARK:
            raise Refused(f"what answers at {peer(connected)} is no cache of this version")
        if other == nonce:
            raise Refused(f"what answers at {peer(connected)} repeats what it hears")
        both = nonce + other if server else other + nonce
        connected.sendall(digest(key, mine + both))
        if not hmac.compare_digest(self._exactly(TAG), digest(key, theirs + both)):
            raise Refused(f"the cache at {peer(connected)} has another key")
        self.mine, self.theirs = digest(key, b"by " + mine + both), digest(key, b"by " + theirs + both)
        self.sent = self.received = 0

    def send(self, *parts: bytes | memoryview) -> None:
        """Send one message."""
        length = HEAD.pack(sum(map(len, parts)))
        message = (length, *parts, tag(self.mine, self.sent, length, *parts))
        for part in [b"".join(message)] if sum(map(len, message)) <= SMALL else message:
            self.socket.sendall(part)
        self.sent += 1

    def receive(self, most: int) -> bytearray:
        """Return the next message. Raises Refused for a longer one than `most`, and one whose hash is wrong."""
        length = self._exactly(HEAD.size)
        (size,) = HEAD.unpack(length)
        if size > most:
            raise Refused(f"{peer(self.socket)} announces {size} bytes, at most {most} make sense")
        content = self._exactly(size)
        found = self._exactly(TAG)
        if not hmac.compare_digest(found, tag(self.theirs, self.received, length, content)):
            raise Refused(f"a message of {peer(self.socket)} was changed on its way")
        self.received += 1
        return content

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _exactly(self, size: int) -> bytearray:
        content = bytearray(size)
        rest = memoryview(content)
        while rest:
            count = self.socket.recv_into(rest)
            if not count:
                raise ConnectionResetError(f"{peer(self.socket)} has closed the connection")
            rest = rest[count:]
        return content


def digest(key: bytes, content: bytes) -> bytes:
    """Return the keyed hash of a text."""
    return blake2b(content, key=key, digest_size=TAG, person=b"loosestep cache").digest()


def tag(key: bytes, number: int, *parts: bytes | bytearray | memoryview) -> bytes:
    """Return the keyed hash of a message and its number."""
    found = blake2b(HEAD.pack(number), key=key, digest_size=TAG, person=b"loosestep cache")
    for part in parts:
        found.update(part)
    return found.digest()


def key_of(text: str) -> bytes:
    """Return the key that a secret text stands for."""
    return blake2b(text.encode(), digest_size=TAG, person=b"loosestep cache").digest()


def peer(connected: socket.socket) -> str:
    """Return who is at the other end, in words."""
    try:
        found = connected.getpeername()
    except OSError:
        return "a process that has gone"
    return f"{found[0]}:{found[1]}" if isinstance(found, tuple) else "this host"
