"""Mutated files, arrays, texts and datagrams: what the library makes of input that nobody meant.

A part belongs to every run of the tests; `CHAOS_SEED=7 pytest -m chaos tests/chaos/test_fuzz.py` does all of it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from tests.chaos import short
from tests.chaos.fuzzing import Tally, fuzz
from tests.chaos.seeds import CASE, CASES, SEED

FUZZ = sorted(file.stem for file in (Path(__file__).parent / "fuzz").glob("*.py"))
OPTIONAL = {"torch", "sklearn", "scipy"}
SHOWN = 12  # of the cases that are wrong
CRASHING = "tests.chaos.crashing"


def module(name: str) -> Any:
    """Of a fuzz; skips where what it needs is not installed."""
    try:
        return importlib.import_module(f"tests.chaos.fuzz.{name}")
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")


def check(tally: Tally, command: str) -> None:
    """Fails with what was wrong, and with the command that does each again."""
    if not tally.wrong:
        return
    shown = list(tally.wrong.items())[:SHOWN]
    told = [f"{command.format(number)}\n    {text}" for number, text in shown]
    words = "\n  ".join(f"{count} {word}" for word, count in sorted(tally.words.items()))
    pytest.fail("\n".join([f"{len(tally.wrong)} cases are wrong", *told, f"and\n  {words}"]), pytrace=False)


@pytest.mark.parametrize("name", sorted(short.FUZZ))
def test_a_few_cases(name: str) -> None:
    count, kinds = short.FUZZ[name]
    tally = fuzz(module(name).__name__, 0, 0, count, kinds)
    path = f"tests.chaos.fuzz.{name} 0 {{0}} $(({{0}} + 1)) {','.join(kinds)}"
    check(tally, f"python -m tests.chaos.fuzzing {path}")
    assert sum(tally.words.values()) == count
    assert len({text.split(": ")[1] for text in tally.words}) > 1  # it is not all refused, nor all accepted


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FUZZ)
def test_all_cases(name: str) -> None:
    first, end = (CASE, CASE + 1) if CASE >= 0 else (0, CASES or module(name).ALL)
    where = f"tests/chaos/test_fuzz.py::test_all_cases[{name}]"
    tally = fuzz(module(name).__name__, SEED, first, end)
    check(tally, f"CHAOS_SEED={SEED} CHAOS_CASE={{}} pytest -n0 -m chaos '{where}'")


def test_a_case_that_ends_its_process_is_told_and_the_next_goes_on() -> None:
    tally = fuzz(CRASHING, 0, 0, 8)
    assert {number: text.split(":")[0] for number, text in tally.wrong.items()} == {
        0: "its process ended with -11",
        2: "raises",
        4: "its process ended with -11",
        6: "raises",
    }
    assert "ValueError: in turn 1, " in tally.wrong[2]
    assert tally.words == {"well: value": 4}


def test_cases_that_cannot_begin_are_no_cases() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)no case was begun: .*No module named 'tests.chaos.nowhere'"):
        fuzz("tests.chaos.nowhere", 0, 0, 4)


def test_a_case_is_the_same_again() -> None:
    (whole, alone) = fuzz(CRASHING, 5, 0, 4), fuzz(CRASHING, 5, 2, 3)
    assert alone.wrong == {2: whole.wrong[2]}
