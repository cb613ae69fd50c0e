"""Roll calls by message: rank 0 keeps the roll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.lowering.requests import RollCall
from loosestep.transports.attendance import Roll
from loosestep.transports.processes.mailbox import Operation
from loosestep.transports.processes.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker
    from loosestep.transports.processes.mailbox import Arrivals, Mailbox, Operations


class Attendance:
    """Says at rank 0 whether this worker has data for a round, and learns whether any has."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox, self.roll = mailbox, Roll(mailbox.size)
        self.open: dict[int, tuple[RollCall, Operation]] = {}  # calls that wait for their answer, by number
        self.operations: Operations = {RollCall: self.call}
        self.arrivals: Arrivals = {Kind.ROLL: self.receive_call, Kind.PRESENT: self.receive_answer}

    def call(self, request: RollCall, worker: Worker) -> Operation:
        """Begin a roll call. A worker with data knows the answer at once."""
        number, operation = self.mailbox.number(), Operation(0 if request.present else 1)
        if request.present:
            request.answer[:] = [True]
        else:
            self.open[number] = request, operation
        header = Header(Kind.ROLL, round=request.round, number=number, note=float(request.present))
        if self.mailbox.rank == 0:
            self.enter(0, header)
        else:
            self.mailbox.send(0, header)
        return operation

    def receive_call(self, source: int, header: Header, content: bytes | None) -> None:
        """Note another worker's call, at rank 0."""
        self.enter(source, header)

    def enter(self, source: int, header: Header) -> None:
        """Note a call in the roll, and answer the calls whose round is now decided."""
        asked = RollCall(header.round, bool(header.note))
        for (rank, number), known in self.roll.say(source, asked, (source, header.number)):
            if known.present:
                continue
            if rank == 0:
                self.finish(number, known.answer[0])
            else:
                self.mailbox.send(rank, Header(Kind.PRESENT, number=number, note=float(known.answer[0])))

    def receive_answer(self, source: int, header: Header, content: bytes | None) -> None:
        """Complete the call that rank 0 has answered."""
        self.finish(header.number, bool(header.note))

    def finish(self, number: int, present: bool) -> None:
        """Give a call its answer."""
        request, operation = self.open.pop(number)
        request.answer[:] = [present]
        operation.finish_part()
