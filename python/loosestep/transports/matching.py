"""Checks that what two workers ask of one communication matches; else the job ends with a message."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any
from zlib import crc32

from loosestep.foundation.errors import Mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from loosestep.requests import AllReduce, Buffer, Shared
    from loosestep.requests.worker import Worker


def check_facts(facts: Sequence[Mapping[str, object]]) -> None:
    """Raise Mismatch, naming the first difference, unless all workers, in rank order, report the same facts."""
    first, *others = facts
    for rank, other in enumerate(others, 1):
        for name in (*first, *other):
            if (mine := other.get(name)) != (wanted := first.get(name)):
                raise Mismatch(f"worker {rank} has {name} {mine}, worker 0 has {name} {wanted}")


def check_message(source: int, content: Buffer, worker: Worker, into: Buffer) -> None:
    """Raise Mismatch unless a message and the buffer that receives it are alike."""
    if into.size != content.size or into.dtype != content.dtype:
        raise Mismatch(
            f"worker {source} sent {content.size} {content.dtype} to worker {worker.rank}, which expects "
            f"{into.size} {into.dtype} in round {worker.round}"
        )


def check_shared(worker: Worker, shared: Shared, buf: Buffer) -> None:
    """Raise Mismatch unless a shared variable and the buffer that meets it are alike."""
    if shared.size != buf.size or shared.dtype != buf.dtype:
        raise Mismatch(
            f"worker {worker.rank} met {shared.name!r} ({shared.size} {shared.dtype}) with {buf.size} "
            f"{buf.dtype} in round {worker.round}"
        )


def check_alike(workers: Sequence[Worker], requests: Sequence[AllReduce]) -> None:
    """Raise Mismatch unless all members of a collective ask for the same."""
    first = requests[0]
    for worker, request in zip(workers, requests, strict=True):
        if (request.buf.size, request.buf.dtype, request.op) != (first.buf.size, first.buf.dtype, first.op):
            raise Mismatch(
                f"worker {worker.rank} asked for {request}, worker {workers[0].rank} for "
                f"{first} in round {worker.round}"
            )


def stable_repr(value: object) -> str:
    """Return `repr(value)` without the addresses of functions in it, which differ between processes and runs."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def build(strategy: object) -> dict[str, str]:
    """Return which code this process runs: loosestep's version, and a checksum of the strategy's source."""
    version = getattr(sys.modules.get("loosestep"), "__version__", "unknown")
    text = "".join(sorted(map(source, set(code_in(strategy)))))
    return {"loosestep's version": version, "the strategy's source (checksum)": f"{crc32(text.encode()):08x}"}


def code_in(value: Any) -> Iterator[Any]:
    """Yield the classes and functions of a value, and of the values in it; none of Python's own."""
    if isinstance(value, (tuple, list)):
        for each in value:
            yield from code_in(each)
    elif isinstance(value, FunctionType):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        mine = (
            kind for kind in type(value).__mro__ if kind.__module__.split(".")[0] not in sys.stdlib_module_names
        )
        yield from mine
        for part in fields(value):
            yield from code_in(getattr(value, part.name))


def source(code: Any) -> str:
    """Return the text of a class or a function; of one that was typed in there is none."""
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return ""
