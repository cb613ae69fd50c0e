"""Writes the training step of a model as a program of many devices: data, tensor and pipeline parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from loosestep.foundation import checks
from loosestep.foundation.value import Value as Described
from loosestep.planner.parallelism import layers as emitted
from loosestep.planner.parallelism.emitter import Emitter, Tensor, part
from loosestep.planner.parallelism.models import Model
from loosestep.planner.parallelism.program import COMPUTE, IN, OUT, Op, Program, Source, Value
from loosestep.planner.parallelism.schedules import SCHEDULES, passes

TARGET_BYTES = 8
"""Of a class, an int64."""


@dataclass(frozen=True, repr=False)
class Degrees(Described):
    """How a training step is distributed over data x tensor x pipeline devices.

    Device (stage, replica, part) has the number (stage data + replica) tensor + part.

    data: replicas, each of which computes an equal part of every batch; gradients are summed over them.
    tensor: devices that compute each layer together (`Linear` says how).
    pipeline: stages, each of which computes some of the layers.
    microbatches: equal parts of a replica's batch, one after the other through the stages.
    schedule: "1f1b" or "gpipe": see `schedules.of_stage`.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    microbatches: int = 1
    schedule: str = "1f1b"

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "microbatches"):
            checks.integer(name, getattr(self, name))
        checks.one_of("schedule", self.schedule, SCHEDULES)

    @property
    def devices(self) -> int:
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        return (
            f"data {self.data} x tensor {self.tensor} x pipeline {self.pipeline} with "
            f"{self.microbatches} microbatch{'es' * (self.microbatches > 1)} ({self.schedule})"
        )


@dataclass(frozen=True, repr=False)
class Training(Described):
    """What is trained in a step, besides the model.

    batch: samples of a step, of all replicas together.
    itemsize: bytes of a parameter, gradient or activation.
    state_bytes: bytes of optimizer state for each parameter: 0 for SGD, 4 with momentum, 8 for Adam, 12 for Adam
        with a float32 copy of the parameters.
    """

    batch: int
    itemsize: int = 4
    state_bytes: int = 8

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch)
        checks.integer("itemsize", self.itemsize)
        checks.integer("state_bytes", self.state_bytes, 0)

    def microbatch(self, degrees: Degrees) -> int:
        """Return the samples of one microbatch; refuse degrees that do not divide the batch."""
        mine = part(self.batch, degrees.data, "the batch", "data degree")
        return part(mine, degrees.microbatches, "a replica's batch", "the number of microbatches")


@lru_cache(maxsize=65536)
def spans(degrees: Degrees, per_host: int) -> tuple[bool, bool, bool]:
    """Return whether tensor groups, data groups and pipeline neighbours are on several hosts.

    If one group or pair of a kind is, all of that kind count as if they were: the slowest holds up the step.
    """
    data, tensor, whole = degrees.data, degrees.tensor, degrees.data * degrees.tensor
    hosts = [device // per_host for device in range(degrees.devices)]
    groups = any(hosts[first] != hosts[first + tensor - 1] for first in range(0, degrees.devices, tensor))
    replicas = any(
        hosts[first + each] != hosts[first + each + (data - 1) * tensor]
        for first in range(0, degrees.devices, whole)
        for each in range(tensor)
    )
    neighbours = any(hosts[device] != hosts[device + whole] for device in range(degrees.devices - whole))
    return groups, replicas, neighbours


class Distribution:
    """Writes one program.

    alike: emit for one device of each stage, which stands for all of it: times and memory are the same.
    """

    def __init__(
        self, model: Model, training: Training, degrees: Degrees, cuts: list[range], per_host: int, *, alike: bool
    ) -> None:
        self.model, self.degrees, self.cuts = model, degrees, cuts
        self.samples = training.microbatch(degrees)
        self.program = Program()
        groups, self.replicas_apart, self.neighbours_apart = spans(degrees, per_host)
        self.stages = [
            [
                Emitter(
                    self.program,
                    range(first, first + (1 if alike else degrees.tensor)),
                    degrees.tensor,
                    training.itemsize,
                    training.state_bytes,
                    between=groups,
                )
                for first in self.groups(stage)[: 1 if alike else None]
            ]
            for stage in range(degrees.pipeline)
        ]
        rows = training.batch * model.rows
        for emitter in self.stages[-1]:
            emitter.scale = 1 / rows
        self.crossing: dict[tuple[Any, ...], Tensor] = {}  # on the way: (stage, replica, microbatch, forward)
        self.saved: dict[tuple[int, int, int], list[Any]] = {}
        self.batches: dict[tuple[int, int], tuple[Value, ...]] = {}

    def groups(self, stage: int) -> range:
        """Return the first device of each tensor group of a stage."""
        whole = self.degrees.data * self.degrees.tensor
        return range(stage * whole, (stage + 1) * whole, self.degrees.tensor)

    def write(self) -> Program:
        """Return the program."""
        for stage, emitters in enumerate(self.stages):
            for replica, emitter in enumerate(emitters):
                self.place(stage, replica, emitter)
        degrees = self.degrees
        for stage, forward, microbatch in passes(degrees.schedule, degrees.pipeline, degrees.microbatches):
            for replica, emitter in enumerate(self.stages[stage]):
                emitter.task = (stage, "forward" if forward else "backward", microbatch)
                (self.forward if forward else self.backward)(stage, replica, emitter, microbatch)
            if not forward and microbatch == degrees.microbatches - 1:
                self.reduce(stage)
        for stage, emitters in enumerate(self.stages):
            for emitter in emitters:
                self.update(stage, emitter)
        return self.program

    def place(self, stage: int, replica: int, emitter: Emitter) -> None:
        """Make the inputs of a stage's devices: its part of the batch, and its parameters."""
        degrees, parts = self.degrees, self.degrees.data * self.degrees.microbatches
        rows = self.samples * self.model.rows
        for microbatch in range(degrees.microbatches):
            index = replica * degrees.microbatches + microbatch
            if stage == 0:
                source = Source("inputs", 0, index, parts)
                values = emitter.given(source, (rows, self.model.inputs))
                self.crossing[0, replica, microbatch, True] = Tensor(values)
            if stage == degrees.pipeline - 1:
                source = Source("targets", 0, index, parts)
                self.batches[replica, microbatch] = emitter.given(source, (rows,), TARGET_BYTES)

    def forward(self, stage: int, replica: int, emitter: Emitter, microbatch: int) -> None:
        x = self.received(stage, replica, emitter, microbatch, forward=True)
        kept = self.saved[stage, replica, microbatch] = []
        for number in self.cuts[stage]:
            x, saved = self.model.layers[number].forward(emitter, x, str(number))
            kept.append(saved)
        if stage + 1 < len(self.stages):
            self.send(stage, stage + 1, replica, emitter, x, forward=True)
        else:
            kept.append(x)

    def backward(self, stage: int, replica: int, emitter: Emitter, microbatch: int) -> None:
        kept = self.saved.pop((stage, replica, microbatch))
        if stage + 1 < len(self.stages):
            dy = self.received(stage, replica, emitter, microbatch, forward=False)
        else:
            emitter.targets = self.batches[replica, microbatch]
            dy = emitted.loss(emitter, kept.pop())
        for number, saved in zip(reversed(self.cuts[stage]), reversed(kept), strict=True):
            dx = self.model.layers[number].backward(emitter, dy, saved, str(number), wanted=number > 0)
            dy = dy if dx is None else dx
        if stage > 0:
            self.send(stage, stage - 1, replica, emitter, dy, forward=False)

    # --- between stages ----------------------------------------------------------------------------------

    def send(self, stage: int, to: int, replica: int, emitter: Emitter, x: Tensor, *, forward: bool) -> None:
        """Send to another stage, each device to the one in its own place there."""
        emitter.label = f"to stage {to}"
        other, under_way = self.stages[to][replica], []
        for value, receiver in zip(x.values, other.devices, strict=True):
            message = Value(receiver, value.shape, 0)  # in flight it takes no memory
            occupied = ((value.device, OUT), (receiver, IN))
            self.add(emitter, "send", (value,), (message,), occupied, value.nbytes, self.neighbours_apart)
            under_way.append(message)
        self.crossing[to, replica, emitter.task[2], forward] = Tensor(tuple(under_way), x.split)

    def received(self, stage: int, replica: int, emitter: Emitter, microbatch: int, *, forward: bool) -> Tensor:
        """Return what another stage has sent; it takes memory from now on."""
        coming = self.crossing.pop((stage, replica, microbatch, forward))
        if forward and stage == 0:
            return coming
        emitter.label = f"from stage {stage - 1 if forward else stage + 1}"
        values = emitter.new(coming.values[0].shape)
        for message, value in zip(coming.values, values, strict=True):
            self.add(emitter, "receive", (message,), (value,), ((value.device, COMPUTE),), value.nbytes)
        return Tensor(values, coming.split)

    # --- between replicas --------------------------------------------------------------------------------

    def reduce(self, stage: int) -> None:
        """Sum the gradients over replicas, a layer at a time, the last one first; it occupies the links alone."""
        emitters = self.stages[stage]
        if self.degrees.data == 1:
            return
        for number in reversed(self.cuts[stage]):
            names = [name for name in emitters[0].gradients if name.partition(".")[0] == str(number)]
            for place in range(len(emitters[0].devices) if names else 0):
                each = [emitter.gradients[name].values[place] for emitter in emitters for name in names]
                made = [Value(value.device, value.shape, emitters[0].itemsize) for value in each]
                occupied = tuple((emitter.devices[place], way) for emitter in emitters for way in (OUT, IN))
                nbytes = sum(value.nbytes for value in each[: len(names)])
                emitters[0].label = f"gradients of layer {number}"
                self.add(
                    emitters[0], "all-reduce", tuple(each), tuple(made), occupied, nbytes, self.replicas_apart,
                    group=self.degrees.data, in_place=True, options={"count": len(names)},
                )  # fmt: skip
                self.replace(emitters, names, place, made)

    def replace(self, emitters: list[Emitter], names: list[str], place: int, made: list[Value]) -> None:
        """Let the gradients of all replicas at one place of their groups be the sums."""
        sums = iter(made)
        for emitter in emitters:
            for name in names:
                values = list(emitter.gradients[name].values)
                values[place] = next(sums)
                emitter.gradients[name] = Tensor(tuple(values))

    def update(self, stage: int, emitter: Emitter) -> None:
        """Update a stage's parameters in place, when all backward passes are over."""
        emitter.task, program = (stage, "update", 0), self.program
        for name, gradient in emitter.gradients.items():
            emitter.label, parameter = name, emitter.parameters[name]
            placed = zip(gradient.values, parameter.tensor.values, strict=True)
            program.gradients.setdefault(name, []).extend((g, program.inputs[p]) for g, p in placed)
            state = (Tensor(parameter.state),) if parameter.state else ()
            inputs = parameter.tensor, gradient, *state
            shape = parameter.tensor.values[0].shape
            program.kept.update(emitter.apply("update", *inputs, shape=shape, in_place=True, rate=0.1).values)

    def add(
        self,
        emitter: Emitter,
        kind: str,
        inputs: tuple[Value, ...],
        outputs: tuple[Value, ...],
        occupies: tuple[tuple[int, str], ...],
        nbytes: int,
        between: bool | None = None,
        **others: Any,
    ) -> None:
        label, task = emitter.label, emitter.task
        op = Op(kind, inputs, outputs, occupies, 0.0, nbytes, between=between, label=label, task=task, **others)
        self.program.ops.append(op)


def distributed(
    model: Model,
    training: Training,
    degrees: Degrees,
    cuts: list[range] | None = None,
    *,
    per_host: int = 8,
    alike: bool = False,
) -> Program:
    """Return the program of a training step on data x tensor x pipeline devices.

    cuts: the layers of each stage; by default as many in each, as far as that goes.
    per_host: devices of a host, which are numbered together.
    alike: write it for one device of each stage alone, which stands for the others: they do the same.

    Raises ValueError where a degree does not divide what it should, or where there are more stages than layers.
    """
    count, stages = len(model.layers), degrees.pipeline
    if stages > count:
        raise ValueError(f"{count} layers cannot be cut into {stages} pipeline stages")
    cuts = cuts or [range(count * s // stages, count * (s + 1) // stages) for s in range(stages)]
    return Distribution(model, training, degrees, cuts, per_host, alike=alike).write()
