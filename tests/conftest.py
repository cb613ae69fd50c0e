"""How all tests are run."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

settings.register_profile("busy machines", deadline=None)  # times are no test's business
settings.load_profile("busy machines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Jobs that wait, as those of tests/system do, begin first: meanwhile other tests compute."""
    items.sort(key=lambda item: {"system", "chaos"}.isdisjoint(item.path.parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Twenty thousand tests stay to the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
