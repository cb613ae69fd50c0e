"""Emits the operations of one pipeline stage: of all devices of a tensor group, or of one that stands for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loosestep.planner.parallelism.kernels import KERNELS
from loosestep.planner.parallelism.program import COMPUTE, Op, Program, Source, Value


class Indivisible(ValueError):
    """A size that a degree does not divide."""


def part(size: int, parts: int, what: str, of: str) -> int:
    """Return an equal part of `size`, which is that of `what`; refuse one that would not be whole."""
    if size % parts:
        raise Indivisible(f"{of} {parts} does not divide {size}, {what}")
    return size // parts


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A matrix on the devices of a tensor group: each has all of it, or (`split`) a part of the columns."""

    values: tuple[Value, ...]
    split: bool = False

    @property
    def rows(self) -> int:
        return self.values[0].shape[0]

    @property
    def width(self) -> int:
        """The columns that a device has."""
        return self.values[0].shape[1]


@dataclass(frozen=True, eq=False, slots=True)
class Parameter:
    """A parameter, or each device's part of it."""

    name: str
    tensor: Tensor
    state: tuple[Value, ...]


class Emitter:
    """Appends operations to a program, for all devices of a tensor group alike.

    devices: those for which it emits: all of the group in order, or the first alone.
    tensor: the tensor degree, the size of the group.
    itemsize: bytes of a value; state_bytes: bytes of optimizer state for each parameter.
    between: whether the group spans hosts.
    """

    def __init__(
        self,
        program: Program,
        devices: Sequence[int],
        tensor: int,
        itemsize: int,
        state_bytes: int,
        *,
        between: bool = False,
    ) -> None:
        self.program, self.devices, self.tensor = program, devices, tensor
        self.itemsize, self.state_bytes, self.between = itemsize, state_bytes, between
        self.parameters: dict[str, Parameter] = {}
        self.gradients: dict[str, Tensor] = {}
        self.task = (0, "", 0)
        self.label = ""
        self.targets: tuple[Value, ...] = ()  # of the microbatch
        self.scale = 1.0  # of the loss

    # --- values ------------------------------------------------------------------------------------------

    def new(self, shape: tuple[int, ...], itemsize: int | None = None) -> tuple[Value, ...]:
        """Return a value of that shape on each device."""
        size = self.itemsize if itemsize is None else itemsize
        return tuple(Value(device, shape, size) for device in self.devices)

    def given(self, source: Source, shape: tuple[int, ...], itemsize: int | None = None) -> tuple[Value, ...]:
        """Return a value that is there before the step, the same on each device."""
        values = self.new(shape, itemsize)
        self.program.inputs.update(dict.fromkeys(values, source))
        return values

    def parameter(self, name: str, shape: tuple[int, ...], axis: int | None = None) -> Tensor:
        """Return a parameter, split along an axis over the devices, or whole on each; made at first use."""
        if name not in self.parameters:
            mine = list(shape)
            if axis is not None:
                mine[axis] = part(shape[axis], self.tensor, f"a size of {name}", "tensor degree")
            values = self.new(tuple(mine))
            for index, value in enumerate(values):
                parts = 1 if axis is None else self.tensor
                self.program.inputs[value] = Source(name, axis or 0, index if parts > 1 else 0, parts)
            count = values[0].nbytes // self.itemsize
            state = self.given(Source(""), (count * self.state_bytes,), 1) if self.state_bytes else ()
            self.parameters[name] = Parameter(name, Tensor(values, axis is not None), state)
        return self.parameters[name].tensor

    # --- operations --------------------------------------------------------------------------------------

    def outputs(
        self, kind: str, inputs: Sequence[Tensor], *shapes: tuple[int, ...], in_place: bool = False, **options: Any
    ) -> list[tuple[Value, ...]]:
        """Emit an operation on each device; return the values of each output."""
        made = [self.new(shape) for shape in shapes]
        flops = KERNELS[kind].flops([each.values[0].shape for each in inputs], shapes, options)
        first = [each.values[0] for each in inputs] + [values[0] for values in made]
        nbytes = sum(value.nbytes for value in first)
        for index, device in enumerate(self.devices):
            if kind == "shard":
                options = {"index": index, "parts": self.tensor}
            op = Op(
                kind,
                tuple(each.values[index] for each in inputs),
                tuple(values[index] for values in made),
                ((device, COMPUTE),),
                flops,
                nbytes,
                in_place=in_place,
                options=options,
                label=self.label,
                task=self.task,
            )
            self.program.ops.append(op)
        return made

    def apply(
        self,
        kind: str,
        *inputs: Tensor,
        shape: tuple[int, ...],
        split: bool = False,
        in_place: bool = False,
        **options: Any,
    ) -> Tensor:
        """Emit an operation with one output on each device."""
        (values,) = self.outputs(kind, inputs, shape, in_place=in_place, **options)
        return Tensor(values, split)

    def sum(self, partial: Tensor) -> Tensor:
        """Return the sum of what the devices of the group have, on each."""
        if self.tensor == 1:
            return Tensor(partial.values)
        return self._collective("all-reduce", partial, partial.values[0].shape, in_place=True, count=1)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return all columns, on each device."""
        if self.tensor == 1 or not tensor.split:
            return Tensor(tensor.values)
        return self._collective("all-gather", tensor, (tensor.rows, tensor.width * self.tensor))

    def shard(self, tensor: Tensor) -> Tensor:
        """Return each device's part of the columns."""
        if self.tensor == 1:
            return Tensor(tensor.values, split=True)
        return self.apply("shard", tensor, shape=(tensor.rows, tensor.width // self.tensor), split=True)

    def _collective(
        self, kind: str, tensor: Tensor, shape: tuple[int, ...], in_place: bool = False, **options: Any
    ) -> Tensor:
        """Emit a communication of the group, in which its devices wait for each other and compute nothing."""
        made = self.new(shape)
        op = Op(
            kind,
            tensor.values,
            made,
            tuple((device, COMPUTE) for device in self.devices),
            nbytes=tensor.values[0].nbytes,
            group=self.tensor,
            between=self.between,
            in_place=in_place,
            options=options,
            label=self.label,
            task=self.task,
        )
        self.program.ops.append(op)
        return Tensor(made)

    def gradient(self, name: str, values: tuple[Value, ...]) -> None:
        """Add a microbatch's gradient of a parameter to what the microbatches before have given."""
        fresh, before = Tensor(values), self.gradients.get(name)
        if before is not None:
            fresh = self.apply("accumulate", before, fresh, shape=values[0].shape, in_place=True)
        self.gradients[name] = fresh
