"""What a unit test leaves behind is put back, so that no test meets the sessions of another."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from loosestep.runtime.exit_handler import ExitHandler


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    """Sessions that a test does not close hook uncaught exceptions, and open loops the end of the script.

    Those of other tests of this process, which may hook them still, are not met here either.
    """
    before, sys.excepthook = sys.excepthook, sys.__excepthook__
    yield
    sys.excepthook = before
    for handler in list(ExitHandler.open):
        handler.close()
