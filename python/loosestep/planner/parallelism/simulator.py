"""Runs a program in virtual time: when each operation begins and ends, and how much memory each device needs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from loosestep.planner.parallelism.hardware import Hardware
from loosestep.planner.parallelism.program import Op, Program, Value


@dataclass(frozen=True)
class Event:
    """An operation, and the seconds since the step began at which it begins and ends."""

    op: Op
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """What a program does in time.

    seconds: the length of the step. events: in the order of issue. peak: of each device, the most bytes that live
    at once. ready: when each value is there.
    """

    seconds: float
    events: list[Event]
    peak: dict[int, int]
    ready: dict[Value, float]


def simulate(program: Program, hardware: Hardware) -> Timeline:
    """Return when each operation of a program begins and ends on this hardware, and the devices' peak memory.

    Operations are issued in the program's order. Each begins when its inputs are there and all that it occupies is
    free: of arithmetic, its device; of a send, the sender's link out and the receiver's link in; of a sum of
    gradients, both directions of its devices' links; of a communication within a tensor group, its devices, which
    wait for each other. So sends and sums of gradients pass while devices compute, as on streams of their own.
    """
    clocks: defaultdict[tuple[int, str], float] = defaultdict(float)
    ready: dict[Value, float] = {}
    events = []
    for op in program.ops:
        begin = max([clocks[each] for each in op.occupies] + [ready.get(value, 0.0) for value in op.inputs])
        end = begin + hardware.seconds(op)
        clocks.update(dict.fromkeys(op.occupies, end))
        ready.update(dict.fromkeys(op.outputs, end))
        events.append(Event(op, begin, end))
    return Timeline(max((event.end for event in events), default=0.0), events, Memory(program).peak(), ready)


class Memory:
    """Follows what lives on each device: a value, from the operation that writes it to the last that reads it.

    That is in the order of issue, as in an allocator that gives memory back when work has been issued; inputs of
    the program live always. What is received takes memory from the operation that receives it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.live: defaultdict[int, int] = defaultdict(int)
        for value in program.inputs:
            self.live[value.device] += value.nbytes
        self.most = dict(self.live)
        self.last: dict[Value, int] = {}
        for number, op in enumerate(program.ops):
            self.last.update(dict.fromkeys(op.outputs, number))
            self.last.update(dict.fromkeys(op.inputs, number))
        for value in (*program.inputs, *program.kept):
            self.last[value] = len(program.ops)

    def peak(self) -> dict[int, int]:
        """Return the most bytes that live at once on each device."""
        for number, op in enumerate(self.program.ops):
            self.step(number, op)
        return dict(sorted(self.most.items()))

    def step(self, number: int, op: Op) -> None:
        """Write an operation's outputs, then give back what nothing reads any more."""
        live = self.live
        if not op.in_place:
            for value in op.outputs:
                live[value.device] += value.nbytes
                self.most[value.device] = max(self.most.get(value.device, 0), live[value.device])
        dead = dict.fromkeys(value for value in (*op.inputs, *op.outputs) if self.last[value] == number)
        taken = set(op.inputs[: len(op.outputs)]) if op.in_place else set()
        for value in dead:
            if value not in taken:
                live[value.device] -= value.nbytes
