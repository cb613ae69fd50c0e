"""Gradients from a function on CuPy arrays, for the library's own loop.

Parameters stay in main memory, where transports find them: every gradient costs a copy there and a copy back. What
lives on the GPU for good (a loop of one's own, a torch model) is updated there by `ops`, which take its arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loosestep.cuda import device
from loosestep.cuda.launch import cupy

GradientFunction = Callable[[Any, Any], Any]


def on_device(gradient: GradientFunction) -> GradientFunction:
    """Return a gradient for `run` from one that CuPy computes: `run(strategy, on_device(gradient), x0, batches)`.

    gradient(x, batch) -> gradient, or (loss, gradient); x is a CuPy array with the values of the parameters, the
    gradient one like it. It runs on the thread's current GPU and stream. TypeError if it returns anything else;
    CudaError where CuPy or a GPU is not here.
    """
    module = cupy()
    device.first()

    def staged(x: Any, batch: Any) -> Any:
        answer = gradient(module.asarray(x), batch)
        loss, found = answer if isinstance(answer, tuple) else (None, answer)
        if not isinstance(found, module.ndarray):
            raise TypeError(f"gradient must return a CuPy array like x, got a {type(found).__name__}")
        copied = module.asnumpy(found)
        return copied if loss is None else (float(loss), copied)

    return staged
