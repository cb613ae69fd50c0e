"""Finds implementations by scanning files, so that a contract test names none of them.

Every implementation has defaults or a classmethod `example()`; what differs between them is declared by the class.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, TypeVar

import pytest

from loosestep import optimizers
from loosestep.optimizers import Optimizer
from loosestep.transports.base import Transport

T = TypeVar("T")


def discover(package: ModuleType, base: type[T]) -> list[type[T]]:
    """Every concrete subclass of `base` that the files of a package (or one module) define, in order of name."""
    files = walk_packages(getattr(package, "__path__", ()), package.__name__ + ".")
    modules = [package, *(import_module(file.name) for file in files)]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    }
    return sorted(
        (cls for cls in classes if is_dataclass(cls) and cls is not base),
        key=lambda c: c.__name__,  # no bases
    )


def optimizers_alone() -> list[type[Optimizer]]:
    """Every optimizer that is a rule of its own: not those whose first field is the optimizer that they wrap."""
    return [kind for kind in discover(optimizers, Optimizer) if fields(kind)[0].name != "optimizer"]


def variants(cls: type[Any]) -> Iterator[Any]:
    """The example; one more for every other word of a closed set, and small buckets."""
    example = cls.example()
    yield example
    for field in fields(cls):
        value = getattr(example, field.name)
        for other in others(field.name, str(field.type), value):
            yield replace(example, **{field.name: other})


def others(name: str, annotation: str, value: Any) -> list[Any]:
    """What else a field may hold."""
    if annotation.startswith("Literal["):
        words = ast.literal_eval(f"({annotation.removeprefix('Literal[').removesuffix(']')},)")
        return [word for word in words if word != value]
    return [64] if name in ("bucket_bytes", "first_bytes") else []


def cases(package: ModuleType, base: type[T]) -> list[Any]:
    """Every variant of every implementation, named as it prints."""
    return [pytest.param(case, id=repr(case)) for cls in discover(package, base) for case in variants(cls)]


def is_wrapper(cls: type[Transport]) -> bool:
    """A transport whose first field is the transport that it wraps."""
    return bool(fields(cls)) and fields(cls)[0].name == "on"


def is_installed(cls: type[Transport]) -> bool:
    """A transport whose library is there; without it, it is tested by nobody, as pytest's skips say elsewhere."""
    try:
        return cls.example().size > 0
    except ImportError:
        return False


def is_many(cls: type[Transport]) -> bool:
    """A transport of as many workers as its first field, `n`, says."""
    return bool(fields(cls)) and fields(cls)[0].name == "n"
