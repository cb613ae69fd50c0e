"""Everything that carries workers, and what they carry: for the tests of transports."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover, is_installed, is_many, is_wrapper
from tests.contract.scripted import Primitive, beginning

from loosestep import transports
from loosestep.transports.base import Transport

KINDS = [kind for kind in discover(transports, Transport) if is_installed(kind)]
MANY = [kind for kind in KINDS if is_many(kind)]
WRAPPERS = [kind for kind in KINDS if is_wrapper(kind)]


def carriers(n: int) -> list[Transport]:
    """Everything that can carry n workers: plain, lowered, wrapped, and those of one worker if n is 1."""
    plain = [kind(n) for kind in MANY]
    if n == 1:
        plain += [kind.example() for kind in KINDS if not is_many(kind) and not is_wrapper(kind)]
    wrapped = [replace(kind.example(), on=inner) for kind in WRAPPERS for inner in plain]
    return [*plain, *(Primitive(inner) for inner in plain), *wrapped]


def each(*sizes: int) -> Any:
    """Parametrize over carriers of so many workers."""
    found = [pytest.param(on, id=f"{on!r} of {n}") for n in sizes for on in carriers(n)]
    return pytest.mark.parametrize("on", found)


def beginnings(n: int, size: int = 6, dtype: type = np.float64) -> list[Any]:
    return [beginning(rank, size, dtype) for rank in range(n)]


def check(got: list[Any], wanted: list[Any]) -> None:
    assert len(got) == len(wanted)
    for mine, right in zip(got, wanted, strict=True):
        assert mine.dtype == right.dtype
        assert mine.tobytes() == right.tobytes()


def fold(function: Any, parts: list[Any]) -> Any:
    """From left to right."""
    total = parts[0]
    for part in parts[1:]:
        total = function(total, part)
    return total


def nobody_is_left() -> None:
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker ")]
