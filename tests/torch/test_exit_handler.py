"""Exits inside `with optimizer:`, and the functions that a script exits by."""

from __future__ import annotations

import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    mlp,
    parallel,
    step,
)

from loosestep.runtime import exit_handler  # noqa: E402


@pytest.mark.parametrize(("code", "bad"), [(0, False), (None, False), (3, True), ("no data", True)])
def test_an_exit_inside(code: Any, bad: bool) -> None:
    """What ends well ends the data: there is a consensus."""
    net = mlp()
    optimizer = parallel(net)
    step(net, optimizer)
    with pytest.raises(SystemExit), optimizer:
        sys.exit(code)
    assert optimizer.loop.over
    assert bool(optimizer.loop.failed) == bad


def test_exit_codes() -> None:
    assert exit_handler.is_success(None)
    assert exit_handler.is_success(0)
    assert not exit_handler.is_success(3)
    assert not exit_handler.is_success("no data")
    before = sys.exit
    one, other = exit_handler.ExitHandler(lambda: None), exit_handler.ExitHandler(lambda: None)
    try:
        for code in (3, None, "no data"):
            with pytest.raises(SystemExit) as caught:
                sys.exit(code)
            assert caught.value.code == code
        assert exit_handler.ExitHandler.code is None, "it was caught"
    finally:
        one.close()
        assert sys.exit is not before
        other.close()
    assert sys.exit is before
