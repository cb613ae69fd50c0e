"""Questions that a process asks of others, and their answers, as JSON; they are no part of a run's work."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.transports.processes.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.transports.processes.mailbox import Arrivals, Mailbox
    from loosestep.transports.processes.wire import Wire

BYTE = np.dtype(np.uint8)


def send_json(wire: Wire, to: int, kind: Kind, number: int, what: Any) -> None:
    """Send a value as JSON."""
    text = np.frombuffer(json.dumps(what).encode(), BYTE)
    wire.send(to, Header(kind, BYTE.num, text.size, number), text, None)


def receive_json(
    wire: Wire, source: int, header: Header, content: bytes | None, then: Callable[[Any], None]
) -> None:
    """Call `then` with the value of a message in JSON, when all of it is here."""
    if content is not None:
        then(json.loads(content))
        return
    text = np.empty(header.size, BYTE)
    wire.receive(source, text, lambda: then(json.loads(text.tobytes())))


class Queries:
    """Asks every process, and answers for this one, in whatever thread makes progress."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox, self.wire = mailbox, mailbox.wire
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.early: list[tuple[int, Header, Any]] = []  # questions that came before their answer was known
        self.asked: dict[int, Callable[[Any], None]] = {}  # by number: what is done with the answer
        self.arrivals: Arrivals = {Kind.ASK: self.receive_question, Kind.REPLY: self.receive_answer}

    def answer(self, topic: str, function: Callable[[Any], Any]) -> None:
        """Let `function` answer questions on this topic from now on."""
        with self.mailbox.lock:
            self.answers[topic] = function
            early, self.early = self.early, []
            for source, header, question in early:
                self.reply(source, header, question)

    def ask(self, rank: int, topic: str, argument: Any, then: Callable[[Any], None]) -> None:
        """Ask a rank, which may be this one; `then` is called with the answer."""
        with self.mailbox.lock:
            number = self.mailbox.number()
            self.asked[number] = then
            send_json(self.wire, rank, Kind.ASK, number, [topic, argument])

    def ask_all(
        self, topic: str, argument: Any, answers: dict[int, Any], then: Callable[[], None] | None = None
    ) -> None:
        """Ask every rank, and fill `answers`; `then` is called when all are there."""
        size = self.mailbox.size

        def note(rank: int, answer: Any) -> None:
            answers[rank] = answer
            if len(answers) == size and then is not None:
                then()

        for rank in range(size):
            self.ask(rank, topic, argument, partial(note, rank))

    def receive_question(self, source: int, header: Header, content: bytes | None) -> None:
        """Answer a question when all of it is here."""
        receive_json(self.wire, source, header, content, partial(self.reply, source, header))

    def reply(self, source: int, header: Header, question: Any) -> None:
        """Send the answer, now or when it is known here."""
        topic, argument = question
        if topic in self.answers:
            send_json(self.wire, source, Kind.REPLY, header.number, self.answers[topic](argument))
        else:
            self.early.append((source, header, question))

    def receive_answer(self, source: int, header: Header, content: bytes | None) -> None:
        """Hand an answer to the caller that asked."""
        receive_json(self.wire, source, header, content, self.asked.pop(header.number))
