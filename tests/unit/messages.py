"""Plays the messages of lowered requests within one thread, in an order that a test draws, and counts them."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loosestep.lowering.requests import Script
from loosestep.requests import Exchange, Start, Wait


@dataclass
class Player:
    """One worker's messages: what it is in, what it has sent, and what its generator returned."""

    rank: int
    requests: Iterator[Any]
    bytes: int = 0
    messages: int = 0
    wanted: list[tuple[Exchange, tuple[int, int, int], Any]] = field(default_factory=list)
    started: dict[int, Player] = field(default_factory=dict)
    awaited: Player | None = None
    returned: Any = None
    over: bool = False


class Mail:
    """Carries messages between players: of one tag, in order between any two."""

    def __init__(self, scripts: Sequence[Iterator[Any]], seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.boxes: dict[tuple[int, int, int], deque[tuple[Any, float]]] = defaultdict(deque)
        self.players = [Player(rank, script) for rank, script in enumerate(scripts)]
        self.all = list(self.players)  # with those that were started

    def play(self) -> list[Player]:
        """Everything, to its end. Fails where nobody can go on, or a message is left over."""
        while going := [player for player in self.all if not player.over]:
            self.random.shuffle(going)
            moved = [self.advance(player) for player in going]
            assert any(moved), "nobody can go on"
        assert not any(self.boxes.values()), "what was sent was not received"
        return self.players

    def advance(self, player: Player) -> bool:
        """Go on as far as messages are there; whether anything moved."""
        moved = self.collect(player)
        if player.awaited is not None and player.awaited.over:
            player.awaited, moved = None, True
        while not player.wanted and player.awaited is None and not player.over:
            moved = True
            try:
                self.begin(player, next(player.requests))
            except StopIteration as end:
                player.over, player.returned = True, end.value
        return moved

    def begin(self, player: Player, request: Any) -> None:
        if isinstance(request, (Script, Start)):
            inner = request.request if isinstance(request, Start) else request
            beside = Player(player.rank, inner.requests if isinstance(inner, Script) else iter((inner,)))
            self.all.append(beside)
            player.started[id(inner)] = beside
            player.awaited = beside if isinstance(request, Script) else None
        elif isinstance(request, Wait):
            player.awaited = player.started.pop(id(request.request))
        else:
            self.exchange(player, request)

    def exchange(self, player: Player, request: Exchange) -> None:
        assert isinstance(request, Exchange), f"{request} was not lowered"
        counted = self.players[player.rank]
        for to, buf in request.sends:
            assert to != player.rank, "nobody writes to itself"
            counted.bytes, counted.messages = counted.bytes + buf.nbytes, counted.messages + 1
            self.boxes[player.rank, to, request.tag].append((np.array(buf), request.note))
        for source, into in request.recvs:
            player.wanted.append((request, (source, player.rank, request.tag), into))

    def collect(self, player: Player) -> bool:
        """Take what has come, the oldest of each sender first."""
        left, passed = [], set()
        here = any(self.boxes[key] for _, key, _ in player.wanted)  # though some may be left for the next time
        for request, key, into in player.wanted:
            if key in passed or not self.boxes[key] or self.random.random() < 0.3:
                passed.add(key)
                left.append((request, key, into))
                continue
            content, note = self.boxes[key].popleft()
            assert (content.size, content.dtype) == (into.size, into.dtype)
            into[...] = content
            if request.notes is not None:
                request.notes[key[0]] = note
        player.wanted = left
        return here
