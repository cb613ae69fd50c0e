"""The reference executor: carries out a program of many devices in one process, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loosestep.planner.parallelism.kernels import KERNELS
from loosestep.planner.parallelism.program import Program, Source, Value


def execute(program: Program, arrays: Mapping[str, Any]) -> tuple[float, dict[str, Any], dict[Value, Any]]:
    """Carry out a program; return the loss, the gradient of every parameter, and all values.

    arrays: "inputs" (rows, width), "targets" (one class a row), and every parameter by its name, whole. Devices'
    parts of a gradient are put together; where several have the same part, they must agree to 1e-9 of its largest
    value, else ValueError.
    """
    values: dict[Value, Any] = {value: portion(arrays, source) for value, source in program.inputs.items()}
    for op in program.ops:
        found = KERNELS[op.kind].run(*(values[value] for value in op.inputs), **op.options)
        for value, array in zip(op.outputs, found, strict=True):
            if value.shape != array.shape:
                raise ValueError(f"{op.label}: {op.kind} gave {array.shape}, the program says {value.shape}")
            values[value] = array
    gradients = {
        name: joined(name, [(values[value], source) for value, source in parts])
        for name, parts in program.gradients.items()
    }
    return float(sum(values[loss][0] for loss in program.losses)), gradients, values


def portion(arrays: Mapping[str, Any], source: Source) -> Any:
    """Return the part of an array that a device has in the beginning."""
    if not source.name:
        return np.zeros(0)
    return np.split(arrays[source.name], source.parts, axis=source.axis)[source.index]


def joined(name: str, parts: list[tuple[Any, Source]]) -> Any:
    """Return a parameter's gradient, whole, from the devices' parts."""
    found: dict[int, Any] = {}
    for array, source in parts:
        known = found.setdefault(source.index, array)
        if not np.allclose(known, array, rtol=0, atol=1e-9 * max(1e-300, abs(known).max())):
            raise ValueError(f"devices do not agree on the gradient of {name}")
    axis = parts[0][1].axis
    return np.concatenate([found[index] for index in sorted(found)], axis=axis)


def parameters(program: Program, seed: int = 0) -> dict[str, Any]:
    """Return an array for every parameter of a program of one device: normal numbers over the root of its rows."""
    random = np.random.default_rng(seed)
    return {
        source.name: random.standard_normal(value.shape) / np.sqrt(value.shape[0])
        for value, source in program.inputs.items()
        if source.name not in ("", "inputs", "targets")
    }
