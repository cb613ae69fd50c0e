"""How all tests are run."""

from __future__ import annotations

import gc
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import settings

settings.register_profile("busy machines", deadline=None)  # times are no test's business
settings.load_profile("busy machines")


NOT_FAST = {
    "chaos", "cuda", "jax", "mpi", "system", "torch",  # start processes, or compile
    "test_factor_rotation.py", "test_forks.py", "test_instruction_sets.py", "test_host.py",  # so do these
    "test_host_buffer.py", "test_host_center.py", "test_host_failures.py", "test_host_lane.py",
    "test_against_torch.py", "test_ops_torch.py",  # import torch
    "test_resuming.py", "test_easgd_against_downpour.py",  # many whole runs to one test
}  # fmt: skip
FAST_CASES = 2
"""`pytest -m fast` runs so many cases of each test function outside NOT_FAST; new folders and functions join."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read, for `-m fast`, what has no fast tests."""
    return True if config.option.markexpr == "fast" and collection_path.name in NOT_FAST else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Jobs that wait, as those of tests/system do, begin first: meanwhile other tests compute."""
    items.sort(key=lambda item: {"system", "chaos"}.isdisjoint(item.path.parts))
    mark_fast(items)


def mark_fast(items: list[pytest.Item]) -> None:
    """Mark a few cases of each test function, the same ones every time, spread over all of its parameters."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if NOT_FAST.isdisjoint(item.path.parts) and marks.isdisjoint({"slow", "chaos", "failures", "gpu"}):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for same in cases.values():
        for item in sorted(same, key=lambda item: crc32(item.nodeid.encode()))[:FAST_CASES]:
            item.add_marker("fast")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Twenty thousand tests stay to the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
