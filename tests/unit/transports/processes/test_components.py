"""What a session is composed of: every kind of collectives and centers has all that one asks of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from loosestep.transports.processes import host_memory, multi_host, shards
from loosestep.transports.processes.components import Centers, Collectives, Component

KINDS = [
    kind
    for module in (host_memory, multi_host, shards)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Component) and kind.__module__ == module.__name__
]


def wanted(kind: type[Any]) -> Iterator[str]:
    base = Collectives if issubclass(kind, Collectives) else Centers
    yield from base.__abstractmethods__
    yield from Component.__annotations__
    yield from base.__annotations__


def test_there_are_several_of_each() -> None:
    assert {kind.__name__ for kind in KINDS} >= {"HostMemory", "Messages", "Hierarchical", "HostCenter", "Shards"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_everything_and_rewrites_nothing_of_a_base(kind: type[Any]) -> None:
    assert not inspect.isabstract(kind)
    source = inspect.getsource(kind)
    for name in wanted(kind):
        assert name in vars(kind) or f"self.{name}" in source, f"{kind.__name__} has no {name}"
    assert {base.__name__ for base in kind.__mro__[1:]} <= {"Collectives", "Centers", "Component", "ABC", "object"}
