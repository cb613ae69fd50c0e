"""Keep `torch._dynamo` out of processes that tests start: their jobs compile nothing, and it is slow to import.

Python imports this file at its start where this folder is in PYTHONPATH. Every optimizer of PyTorch imports
`torch._dynamo` to say that its methods are not to be compiled; here that module leaves them as they are. Tests
within one process, and the job of `tests/torch/processes/all_cases.py`, have the true one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Finder:
    """Of that one module; it is also what loads it."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "torch._dynamo" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.disable = disable  # type: ignore[attr-defined]
        module.graph_break = lambda: None  # type: ignore[attr-defined]


def disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **_: object) -> Any:
    """Return the function, or a decorator that does."""
    return fn or (lambda function: function)


sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
