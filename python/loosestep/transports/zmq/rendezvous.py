"""How processes meet: each tells rank 0 where it listens, and rank 0 tells all of it to each."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

import zmq

from loosestep.foundation.errors import Mismatch, PeerFailed, TimedOut

if TYPE_CHECKING:
    from loosestep.transports.zmq.place import Place
    from loosestep.transports.zmq.sockets import Sockets

LOOK = 50  # milliseconds between two looks at the clock
AGAIN = 1.0  # seconds until a process that has no answer says again that it is here
NOTICE = 10.0  # seconds until the first line about ranks that are late; then at twice, four times, ... that time
FAREWELL = 5.0  # seconds for rank 0's last answers to go out
LARGEST = 1 << 24  # bytes of a message

Card = dict[str, Any]
"""What a process says of itself: `rank`, `size`, `job`, who it is, and whatever the others need of it."""


def meet(sockets: Sockets, place: Place, card: Card, deadline: float) -> tuple[bytes, list[Card]]:
    """Return a token that only this job knows, and every process's card, in rank order; every process calls it.

    Raises TimedOut where some do not come before the deadline, Mismatch where they do not fit together, PeerFailed
    where one says that it will not come.
    """
    card = {**card, "rank": place.rank, "size": place.size, "job": place.job, "who": who()}
    if place.size == 1:
        return b"", [card]
    clock = Patience(place.rank, deadline)
    return Host(sockets, place, card).meet(clock) if place.rank == 0 else Guest(sockets, place, card).meet(clock)


def who() -> str:
    """Return which process this is, for people."""
    return f"process {os.getpid()} on {platform.node()}"


class Patience:
    """Says now and then who is waited for, and raises TimedOut after the deadline."""

    def __init__(self, rank: int, deadline: float) -> None:
        self.rank, self.deadline, self.began, self.notice = rank, deadline, time.monotonic(), NOTICE

    def check(self, missing: list[str]) -> None:
        """Look at the clock; missing: who is waited for, in words."""
        waited = time.monotonic() - self.began
        if waited > self.deadline:
            raise TimedOut(self.rank, "its beginning", missing, self.deadline)
        if waited > self.notice:
            self.notice *= 2
            words = f"worker {self.rank} has waited {waited:.0f} s at its beginning for {'; '.join(missing)}"
            print(words, file=sys.stderr, flush=True)


def late(ranks: list[int], where: str) -> list[str]:
    """Return who is late, in words."""
    return [f"worker {rank}, which has not come to {where}" for rank in ranks]


class Host:
    """Rank 0's part: it listens until all are there."""

    def __init__(self, sockets: Sockets, place: Place, card: Card) -> None:
        self.sockets, self.place = sockets, place
        self.cards: dict[int, Card] = {0: card}
        self.ways: dict[int, bytes] = {}  # to those that are here
        self.socket = sockets.server(LARGEST)
        self.where = self.listen()
        self.error: Mismatch | PeerFailed | None = None

    def listen(self) -> str:
        """Listen at the first address that is free, and return it."""
        errors = []
        for endpoint in self.place.endpoints:
            try:
                self.socket.bind(self.bound(endpoint))
            except zmq.ZMQError as error:
                errors.append(f"{endpoint} ({os.strerror(error.errno)})")
            else:
                return endpoint
        self.socket.close(0)
        raise OSError(f"rank 0 cannot listen at {' or '.join(errors)}: give the job another port")

    def bound(self, endpoint: str) -> str:
        """Return the address to listen at: on every interface, unless all are on this machine."""
        port = endpoint.rpartition(":")[2]
        if endpoint.startswith("ipc:"):
            return endpoint
        return f"tcp://127.0.0.1:{port}" if self.place.local else f"tcp://*:{port}"

    def meet(self, clock: Patience) -> tuple[bytes, list[Card]]:
        """Wait until all are here, and tell each of all others."""
        try:
            while self.missing and self.error is None:
                self.sockets.admit()
                if self.socket.poll(LOOK):
                    self.hear(*self.socket.recv_multipart())
                clock.check(late(self.missing, self.where) + self.strangers())
        except TimedOut as error:
            self.tell({"error": f"worker 0 gave up: {error}", "rank": 0})
            raise
        else:
            if self.error is not None:
                self.tell({"error": str(self.error), "rank": getattr(self.error, "rank", -1)})
                raise self.error
            token, cards = secrets.token_bytes(8), [self.cards[rank] for rank in range(self.place.size)]
            self.tell({"token": token.hex(), "cards": cards})
            return token, cards
        finally:
            self.socket.close(round(1000 * FAREWELL))

    @property
    def missing(self) -> list[int]:
        """The ranks that have not come."""
        return [rank for rank in range(self.place.size) if rank not in self.cards]

    def strangers(self) -> list[str]:
        """Return a word about those that had another key."""
        count = self.sockets.refused
        return [f"none of {count} that came with another key (LOOSESTEP_KEY) and were refused"] if count else []

    def hear(self, way: bytes, *content: bytes) -> None:
        """Note who has come. What is not understood changes nothing."""
        card = parsed(b"".join(content))
        if card is None:
            return
        if card["job"] != self.place.job:
            self.answer(way, {"other": f"the job {self.place.job!r} meets here"})
            return
        rank, size = card["rank"], card["size"]
        if "failed" in card:
            self.error = PeerFailed(rank, str(card["failed"]))
        elif size != self.place.size:
            self.error = Mismatch(f"worker {rank} is one of {size}, worker 0 one of {self.place.size}")
            self.answer(way, {"error": str(self.error), "rank": -1})
        elif not 0 < rank < size or self.cards.get(rank, card)["who"] != card["who"]:
            there = self.cards.get(rank, card)["who"]
            self.answer(
                way, {"error": f"both {there} and {card['who']} say that they are rank {rank}", "rank": -1}
            )
        else:
            self.cards[rank], self.ways[rank] = card, way
            self.tell({"missing": self.missing})

    def tell(self, what: Card) -> None:
        """Tell all that are here."""
        for way in self.ways.values():
            self.answer(way, what)

    def answer(self, way: bytes, what: Card) -> None:
        """Tell one; a ROUTER drops what goes to one that has gone."""
        self.socket.send_multipart([way, json.dumps(what).encode()])


def parsed(content: bytes) -> Card | None:
    """Return the card in a message, None where it is none."""
    try:
        card = json.loads(content)
    except ValueError:
        return None
    fits = isinstance(card, dict) and type(card.get("rank")) is type(card.get("size")) is int
    return card if fits and {"job", "who"} <= card.keys() else None


class Guest:
    """The part of any other rank: it tells wherever rank 0 may be that it is here, until it is answered."""

    def __init__(self, sockets: Sockets, place: Place, card: Card) -> None:
        self.sockets, self.place, self.card = sockets, place, card
        self.missing = [0]
        self.notes: list[str] = []

    def meet(self, clock: Patience) -> tuple[bytes, list[Card]]:
        """Wait for rank 0's answer."""
        doors = self.connected()
        poller = zmq.Poller()
        for door in doors:
            poller.register(door, zmq.POLLIN)
        said = 0.0
        try:
            while True:
                if time.monotonic() - said > AGAIN:
                    said = time.monotonic()
                    self.tell(doors, self.card)
                for door, _ in poller.poll(LOOK):
                    found = self.hear(json.loads(door.recv()))
                    if found is not None:
                        return found
                clock.check(late(self.missing, " or ".join(self.place.endpoints)) + self.notes)
        finally:
            for door in doors:
                door.close(0)

    def connected(self) -> list[Any]:
        """Return a socket for every place where rank 0 may be."""
        doors = []
        for endpoint in self.place.endpoints:
            door = self.sockets.client()
            door.set(zmq.SNDHWM, 2)
            door.connect(endpoint)
            doors.append(door)
        return doors

    def tell(self, doors: list[Any], what: Card) -> None:
        """Say something at every place; nothing where what was said before waits to be heard."""
        for door in doors:
            try:
                door.send(json.dumps(what).encode(), zmq.NOBLOCK)
            except zmq.Again:
                continue

    def hear(self, said: Card) -> tuple[bytes, list[Card]] | None:
        """Return what was waited for, if this is it."""
        if "error" in said:
            rank = said["rank"]
            raise PeerFailed(rank, said["error"]) if rank >= 0 else Mismatch(said["error"])
        if "other" in said:
            self.notes = [said["other"]]
        self.missing = said.get("missing", self.missing)
        return (bytes.fromhex(said["token"]), said["cards"]) if "token" in said else None


def excuse(sockets: Sockets, place: Place, words: str) -> None:
    """Tell rank 0 that this process will not come; what it is waiting for goes out while the process ends."""
    if place.rank > 0:
        card = {"rank": place.rank, "size": place.size, "job": place.job, "who": who(), "failed": words}
        guest = Guest(sockets, place, card)
        doors = guest.connected()
        guest.tell(doors, card)
        for door in doors:
            door.close(round(1000 * FAREWELL))
