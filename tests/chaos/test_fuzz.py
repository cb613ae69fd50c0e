"""Mutated files, arrays, texts and datagrams: what the library makes of input that nobody meant.

A part belongs to every run of the tests; `CHAOS_SEED=7 pytest -m chaos tests/chaos/test_fuzz.py` does all of it.
"""

from __future__ import annotations

import pytest
from tests.chaos import short
from tests.chaos.fuzzing import Tally, fuzz
from tests.chaos.kind import modules
from tests.chaos.seeds import CASE, CASES, SEED

FUZZ = {module.__name__.rpartition(".")[2]: module for module in modules("fuzz") if hasattr(module, "KINDS")}
SHOWN = 12  # of the cases that are wrong


def check(name: str, tally: Tally) -> None:
    """Fails with what was wrong, and with the command that does each again."""
    if tally.wrong:
        again = "CHAOS_SEED={} CHAOS_CASE={} pytest -n0 -m chaos tests/chaos/test_fuzz.py -k {}"
        told = [
            f"{again.format(SEED, number, name)}\n    {text}" for number, text in list(tally.wrong.items())[:SHOWN]
        ]
        words = "\n  ".join(f"{count} {word}" for word, count in sorted(tally.words.items()))
        pytest.fail("\n".join([f"{len(tally.wrong)} cases are wrong", *told, f"and\n  {words}"]), pytrace=False)


def skip_if_missing(name: str) -> None:
    for module in getattr(FUZZ[name], "NEEDS", ()):
        pytest.importorskip(module)


@pytest.mark.parametrize("name", sorted(short.FUZZ))
def test_a_few_cases(name: str) -> None:
    skip_if_missing(name)
    count, kinds = short.FUZZ[name]
    tally = fuzz(name, 0, 0, count, kinds)
    check(name, tally)
    assert sum(tally.words.values()) == count
    assert len(tally.words) > 1  # it is not all refused, nor all accepted


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(FUZZ))
def test_all_cases(name: str) -> None:
    skip_if_missing(name)
    first, end = (CASE, CASE + 1) if CASE >= 0 else (0, CASES or FUZZ[name].ALL)
    check(name, fuzz(name, SEED, first, end))
