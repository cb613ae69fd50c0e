"""What one layer costs a device: seconds and bytes of its passes, from its own operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loosestep.planner.parallelism import layers as emitted
from loosestep.planner.parallelism.distribution import TARGET_BYTES, Training
from loosestep.planner.parallelism.emitter import Emitter, Tensor
from loosestep.planner.parallelism.hardware import Hardware
from loosestep.planner.parallelism.layers import Layer
from loosestep.planner.parallelism.program import Op, Program, Value
from loosestep.planner.parallelism.simulator import Memory


class PassCost(NamedTuple):
    """What a pass over one microbatch costs a device.

    seconds: all of it; computing: without communication. sent: bytes that go to the tensor group.
    peak, net: bytes that live in it at most, and when it is over, less those that live when it begins.
    ready, result: seconds after its begin at which its parameters' gradients are there, and what it passes on;
        `ready` is of a single layer.
    """

    seconds: float = 0.0
    computing: float = 0.0
    sent: float = 0.0
    peak: int = 0
    net: int = 0
    ready: float = 0.0
    result: float = 0.0

    def then(self, after: PassCost) -> PassCost:
        """Return the cost of this pass and another after it."""
        return PassCost(
            self.seconds + after.seconds,
            self.computing + after.computing,
            self.sent + after.sent,
            max(self.peak, self.net + after.peak),
            self.net + after.net,
            self.seconds + after.ready,
            self.seconds + after.result,
        )


class LayerCost(NamedTuple):
    """What a layer costs a device.

    first, later: backward passes of the first microbatch and of others, which add to its gradients.
    keeps_output: its backward pass reads its output.
    output: bytes of that; split: each device has a part of its columns.
    parameters, state: bytes. update: seconds.
    """

    forward: PassCost
    first: PassCost
    later: PassCost
    keeps_output: bool
    output: int
    split: bool
    width: int
    parameters: int
    state: int
    update: float


class Place(NamedTuple):
    """Where a layer is: what decides its cost besides its sizes.

    rows, width, split: of its input; each device of `tensor` has `width` columns. between: they are on several
    hosts. kept: something else keeps its input. wanted: so is the gradient of its input.
    """

    tensor: int
    between: bool
    rows: int
    width: int
    split: bool
    kept: bool
    wanted: bool


def sent_in_group(op: Op) -> float:
    """Return the bytes that a device sends in a communication of its tensor group."""
    if op.between is None:
        return 0.0
    return 2 * (op.group - 1) / op.group * op.nbytes if op.kind == "all-reduce" else (op.group - 1) * op.nbytes


class Measure:
    """The operations of a layer for one device, and what they cost, pass by pass."""

    def __init__(self, place: Place, training: Training, hardware: Hardware) -> None:
        self.place, self.training, self.hardware = place, training, hardware
        self.program = Program()
        self.emitter = Emitter(
            self.program, (0,), place.tensor, training.itemsize, training.state_bytes, between=place.between
        )
        self.ends: list[int] = []  # of the passes, in operations
        self.stays: set[Value] = set()

    def tensor(self, width: int, *, split: bool, stays: bool = False) -> Tensor:
        """Return a tensor that something else has written; one that stays is not this layer's to give back."""
        values = self.emitter.new((self.place.rows, width))
        self.stays.update(values if stays else ())
        return Tensor(values, split)

    def end(self) -> None:
        """Say that a pass ends here."""
        self.ends.append(len(self.program.ops))

    def costs(self, gradients: Sequence[set[Value]], results: Sequence[Tensor | None]) -> list[PassCost]:
        """Return the cost of each pass; `gradients` of each are its gradients of parameters."""
        memory = Memory(self.program)
        memory.last.update(dict.fromkeys(self.stays, len(self.program.ops)))
        found, begin = [], 0
        for end, wanted, result in zip(self.ends, gradients, results, strict=True):
            passed_on = set() if result is None else set(result.values)
            found.append(self.one(memory, begin, end, wanted, passed_on))
            begin = end
        return found

    def one(self, memory: Memory, begin: int, end: int, gradients: set[Value], passed_on: set[Value]) -> PassCost:
        """Return the cost of the pass of these operations."""
        start = memory.most[0] = memory.live[0]
        seconds = computing = sent = ready = result = 0.0
        for number in range(begin, end):
            op = self.program.ops[number]
            memory.step(number, op)
            spent = self.hardware.seconds(op)
            seconds += spent
            computing += spent if op.between is None else 0.0
            sent += sent_in_group(op)
            if gradients.intersection(op.outputs):
                ready = seconds
            if passed_on.intersection(op.outputs):
                result = seconds
        peak, net = memory.most[0] - start, memory.live[0] - start
        return PassCost(seconds, computing, sent, peak, net, ready, result)


def layer_cost(layer: Layer, name: str, place: Place, training: Training, hardware: Hardware) -> LayerCost:
    """Return what a layer costs, of two microbatches: the forward pass, and the backward pass of each.

    name: the layer's, for errors.
    """
    measure = Measure(place, training, hardware)
    emitter, passes, gradients = measure.emitter, [], []
    for _ in range(2):
        x = measure.tensor(place.width, split=place.split, stays=place.kept)
        passes.append(layer.forward(emitter, x, name))
        measure.end()
        gradients.append(set[Value]())
    forward_ops = measure.ends[-1]
    results: list[Tensor | None] = [y for y, _ in passes]
    for y, saved in passes:
        dy = measure.tensor(y.width, split=y.split)
        dx = layer.backward(emitter, dy, saved, name, wanted=place.wanted)
        measure.stays.update(dx.values if dx is not None else ())
        measure.end()
        results.append(dx)
        gradients.append({value for each in emitter.gradients.values() for value in each.values})
    measure.stays.update(gradients[-1])
    read = {value for op in measure.program.ops[forward_ops:] for value in op.inputs}
    y = passes[0][0]
    keeps = y.values[0] in read
    measure.stays.update(value for y, _ in passes for value in (() if keeps else y.values))
    forward, _, first, later = measure.costs(gradients, results)
    parameters = [each.tensor.values[0] for each in emitter.parameters.values()]
    state = [value for each in emitter.parameters.values() for value in each.state]
    return LayerCost(
        forward, first, later, keeps, y.values[0].nbytes, y.split, y.width,
        sum(value.nbytes for value in parameters), sum(value.nbytes for value in state),
        update_seconds(emitter, training, hardware),
    )  # fmt: skip


def update_seconds(emitter: Emitter, training: Training, hardware: Hardware) -> float:
    """Return how long the updates of a layer's parameters take."""
    before = len(emitter.program.ops)
    for name, each in emitter.parameters.items():
        emitter.apply(
            "update", each.tensor, emitter.gradients[name], *([Tensor(each.state)] if each.state else []),
            shape=each.tensor.values[0].shape, in_place=True, rate=0.1,
        )  # fmt: skip
    return sum(map(hardware.seconds, emitter.program.ops[before:]))


def loss_cost(place: Place, training: Training, hardware: Hardware) -> PassCost:
    """Return what the loss costs, with which the backward pass begins."""
    measure = Measure(place, training, hardware)
    measure.emitter.targets = (Value(0, (place.rows,), TARGET_BYTES),)
    measure.stays.update(measure.emitter.targets)
    dx = emitted.loss(measure.emitter, measure.tensor(place.width, split=place.split, stays=place.kept))
    measure.stays.update(dx.values)
    measure.end()
    return measure.costs([set()], [dx])[0]
