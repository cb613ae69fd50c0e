"""Errors of one worker, as all of them raise them."""

from __future__ import annotations

import pytest

from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.runtime.agreement.base import from_json, to_json


@pytest.mark.parametrize("error", [CheckpointError("a"), Diverged(2, 5, what="parameters"), ValueError("b")])
def test_an_error_travels_as_json(error: Exception) -> None:
    again = from_json("save()", "worker 2", to_json(error))
    words = {
        "CheckpointError": "worker 2: a",
        "Diverged": str(error),
        "ValueError": "worker 2: ValueError: b (in save())",
    }
    assert str(again) == words[type(error).__name__]
    assert isinstance(again, Diverged if isinstance(error, Diverged) else CheckpointError)
