"""The intermediate representation of a distributed training step: operations on values that live on devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

COMPUTE, OUT, IN = "compute", "link out", "link in"
"""What of a device an operation occupies: its arithmetic, or one direction of its link to others."""


class Value:
    """An array on one device, written once; two values are the same only if they are one object."""

    __slots__ = ("device", "nbytes", "shape")

    def __init__(self, device: int, shape: tuple[int, ...], itemsize: int) -> None:
        self.device, self.shape, self.nbytes = device, shape, prod(shape) * itemsize


@dataclass(eq=False, slots=True)
class Op:
    """One operation. It begins when its inputs are there and what it occupies is free.

    kind: a name of `kernels.KERNELS`.
    inputs, outputs: of several devices in turn, if it is a communication.
    occupies: (device, COMPUTE, OUT or IN) pairs.
    flops, nbytes: of arithmetic, the floating-point operations and the bytes of memory that it reads and writes;
        of a communication 0 and the bytes of the vector that each device gives.
    group: how many devices take part; more than `occupies` names where one stands for all that are like it.
    between: whether a communication crosses hosts; None for arithmetic.
    in_place: the i-th output takes the memory of the i-th input.
    options: arguments of the kernel.
    label: for people.
    task: (stage, "forward", "backward" or "update", microbatch).
    """

    kind: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    occupies: tuple[tuple[int, str], ...]
    flops: float = 0.0
    nbytes: float = 0.0
    group: int = 1
    between: bool | None = None
    in_place: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    task: tuple[int, str, int] = (0, "", 0)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the numbers of an input come from: the `index`-th of `parts` equal parts of an array, along an axis.

    name: of a parameter, "inputs" or "targets"; "" if it has no numbers, as the state of an optimizer.
    """

    name: str
    axis: int = 0
    index: int = 0
    parts: int = 1


@dataclass
class Program:
    """A training step: operations in the order in which they are issued, each device's in its own order.

    inputs: what lies in memory before and after the step: parameters, optimizer state, the batch.
    losses: each microbatch's part of the loss; their sum is the loss.
    gradients: of every parameter its values on the devices, in the order of those; the sum over all data.
    """

    ops: list[Op] = field(default_factory=list)
    inputs: dict[Value, Source] = field(default_factory=dict)
    losses: list[Value] = field(default_factory=list)
    gradients: dict[str, list[tuple[Value, Source]]] = field(default_factory=dict)
    kept: set[Value] = field(default_factory=set)

    @property
    def devices(self) -> Sequence[int]:
        """The devices on which anything happens, in order."""
        return sorted({device for op in self.ops for device, _ in op.occupies})
