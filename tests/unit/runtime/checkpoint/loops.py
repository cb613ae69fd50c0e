"""Loops of users without a framework, and what a checkpoint of one needs of a framework."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.unit.runtime.test_user_loop import Users
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.agreement.meeting import Agreement
from loosestep.runtime.checkpoint.loop import Checkpoints
from loosestep.runtime.checkpoint.member import Member

Facts = dict[str, Any]
Tensors = dict[str, Any]


class Contents:
    """An optimizer of a framework's, whose state is one array and one number."""

    def __init__(self) -> None:
        self.velocity, self.rate = np.zeros(3), 0.5
        self.changed = False

    def kind(self) -> str:
        return "Velocity"

    def shapes(self) -> list[tuple[str, tuple[int, ...], str]]:
        return [("weight", (2,), "torch.float64")]

    def count(self) -> int:
        return 2

    def check_unchanged(self) -> None:
        if self.changed:
            raise RuntimeError("a parameter was replaced")

    def save(self, tensors: Tensors) -> Facts:
        tensors["velocity"] = self.velocity
        return {"rate": self.rate}

    def check(self, tensors: Tensors, facts: Facts, where: str) -> None:
        if tensors["velocity"].size != self.velocity.size:
            raise CheckpointError(f"{where} holds another velocity")

    def load(self, tensors: Tensors, facts: Facts) -> None:
        self.velocity, self.rate = tensors["velocity"], facts["rate"]


class Beside:
    """The user's `also=` is a dict of numbers; where random numbers stand is a count of draws."""

    def __init__(self) -> None:
        self.drawn = 0

    def checked(self, also: Any) -> None:
        if not isinstance(also, (dict, tuple)):
            raise TypeError(f"also is of type {type(also).__name__}")

    def save(self, also: Any, tensors: Tensors) -> Facts:
        return {"also": dict(also), "drawn": self.drawn}

    def check(self, also: Any, facts: Facts, where: str) -> None:
        if sorted(also) != sorted(facts["also"]):
            raise CheckpointError(f"{where} was saved with also= of {sorted(facts['also'])}")

    def load(self, also: Any, tensors: Tensors, facts: Facts) -> None:
        if also:
            also.update(facts["also"])

    def load_random_states(self, tensors: Tensors, facts: Facts) -> None:
        self.drawn = facts["drawn"]


class One:
    """One worker's loop, and its checkpoints: as many members as asked for, each with a loop of its own."""

    def __init__(
        self,
        strategy: ls.Strategy | None = None,
        session: Callable[[], FakeSession] = FakeSession,
        members: int = 1,
    ) -> None:
        self.users = [Users(strategy or ls.LocalSGD(2), session=session()) for _ in range(members)]
        self.loop, self.worker = self.users[0].loop, self.users[0].worker
        self.contents = [Contents() for _ in self.users]
        made = [
            Member(contents, Agreement(one.loop)) for contents, one in zip(self.contents, self.users, strict=True)
        ]
        self.member, self.beside = made[0], Beside()
        self.checkpoints = Checkpoints(made, self.beside)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            for one in self.users:
                one.step()


class Together:
    """Workers in threads, which tell each other what an agreement asks. Parameters are equal, so are means."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.said = size, threading.Barrier(size, timeout=20), [None] * size

    def session(self, rank: int) -> FakeSession:
        session = FakeSession(self.size, rank)

        def exchange(mine: Any) -> list[Any]:
            self.said[rank] = mine
            self.barrier.wait()
            found = list(self.said)
            self.barrier.wait()
            return found

        session.surveys["word"] = exchange
        return session

    def each(self, action: Callable[[int], Any]) -> list[Any]:
        """Return what the action gives, or raises, on each rank."""
        found: list[Any] = [None] * self.size

        def work(rank: int) -> None:
            try:
                found[rank] = action(rank)
            except Exception as error:
                found[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        return found
