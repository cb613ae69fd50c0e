"""What all tests share."""

from __future__ import annotations

import gc

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Twenty thousand tests stay to the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
