"""The real CuPy, without a GPU: it takes our arguments, and goes on to ask for a driver."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cuda.emulated.stub import Gpu

from loosestep.cuda.launch import Stream, addresses, by_value

cupy = pytest.importorskip("cupy")


def started(*arguments: Any) -> Exception:
    """What a function that was never loaded says: CuPy reads the arguments first."""
    from cupy.cuda.function import Function

    with pytest.raises(Exception) as caught:  # noqa: PT011
        Function.__new__(Function)((1,), (1,), arguments, shared_mem=0, stream=Stream(5))
    return caught.value


def test_structures_and_numbers_are_arguments() -> None:
    assert "Unsupported type" in str(started(object()))
    for argument in (by_value(b"x" * 24), addresses([1, 2, 3]), 5):
        assert "CUDA" in type(started(argument)).__name__


def test_the_callers_stream_is_taken_as_it_is() -> None:
    assert [cupy.cuda.Stream.from_external(Stream(place)).ptr for place in (0, 5)] == [0, 5]


def test_the_stub_has_only_what_cupy_has() -> None:
    stub = Gpu().module()
    for made, real in ((stub, cupy), (stub.cuda, cupy.cuda)):
        assert [name for name in vars(made) if not name.startswith("__") and not hasattr(real, name)] == []
