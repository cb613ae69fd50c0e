"""The table of claims names pages, commands and tests that exist, and pages of experiments are in it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from bench.papers import __main__ as papers

import loosestep

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
TEXT = (RESULTS / "claims.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")
]
CLAIMS = ROWS[1:]
VERDICT = re.compile(r"\*\*(yes|no|partly)\*\*|not yet shown")


def exists(command: str) -> bool:
    """Whether what a command names is there."""
    kind, *rest = command.split()
    if kind == "pytest":
        return (ROOT / rest[0]).is_file()
    if kind == "loosestep":
        return bool(list((ROOT / "examples").rglob(rest[-2])))
    module = rest[1]
    if module == "bench.papers":
        return rest[2] in papers.names()
    place = ROOT.joinpath(*module.split("."))
    text = "".join(file.read_text() for file in (ROOT / "bench").rglob("*.py"))
    return place.with_suffix(".py").is_file() or ((place / "__main__.py").is_file() and f'"{rest[2]}"' in text)


def test_the_table_has_a_cell_for_each_title() -> None:
    assert ROWS[0] == ["paper", "claim", "strategy", "page", "command", "shown?"]
    assert len(CLAIMS) > 25
    assert {len(row) for row in CLAIMS} == {6}


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row[1][:40])
def test_a_claim_has_a_verdict_and_what_it_rests_on_exists(row: list[str]) -> None:
    *_, page, command, verdict = row
    assert VERDICT.search(verdict)
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (RESULTS / link).is_file(), link
    assert bool(page or command) == ("**" in verdict), "a verdict has a page or a test, and no other row has one"
    for told in re.findall(r"`([^`]+)`", command):
        assert exists(told), told


def named(text: str) -> object:
    """Return what a name below `loosestep` means."""
    value: Any = loosestep
    for part in text.split("."):
        value = getattr(value, part) if hasattr(value, part) else import_module(f"{value.__name__}.{part}")
    return value


def test_strategies_are_public_names() -> None:
    pytest.importorskip("sklearn")
    names = {name for row in CLAIMS for name in re.findall(r"`([^`]+)`", row[2])}
    assert len(names) > 20
    assert all(map(named, names))


def test_commands_that_do_not_exist_are_found() -> None:
    assert exists("python -m bench.papers easgd")
    assert exists("python -m bench factors")
    for wrong in (
        "python -m bench.papers eazgd",
        "python -m bench fractions",
        "python -m bench.plannner",
        "pytest no.py",
    ):
        assert not exists(wrong), wrong
