"""What is said in several files about versions, tasks and platforms says the same."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import loosestep

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text())
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def sessions() -> dict[str, Any]:
    """Return each session of the noxfile with the Pythons that it names."""
    found = {}
    for node in NOXFILE.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            decorator = node.decorator_list[0]
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            found[node.name] = [ast.literal_eval(each.value) for each in keywords if each.arg == "python"]
    return found


def test_contributing_lists_the_sessions_of_the_noxfile() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("## Sessions") : text.index("## What a change")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*sessions()]


def test_each_session_says_what_it_does() -> None:
    for node in NOXFILE.body:
        if isinstance(node, ast.FunctionDef):
            assert ast.get_docstring(node), node.name


def test_workflows_call_sessions_that_there_are() -> None:
    called = [
        name
        for file in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
        for name in re.findall(r"nox -s \"?(\w+)", file.read_text())
    ]
    assert {"docs", "versions", "sanitizers"} <= set(called) <= set(sessions())


def test_every_place_that_names_pythons_names_the_same() -> None:
    """The classifiers, the noxfile, the workflow and the wheels; and the oldest of them wherever one is wanted."""
    classified = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    assert classified == PYTHONS
    assert sessions()["versions"] == [PYTHONS]
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert ast.literal_eval(re.findall(r"python: (\[.*\])", workflow)[0]) == PYTHONS
    first, last = PYTHONS[0].partition(".")[2], PYTHONS[-1].partition(".")[2]
    span = f"cp3{first[:-1]}[{first[-1]}-{last[-1]}]-"
    assert all(pattern.startswith(span) for pattern in PROJECT["tool"]["cibuildwheel"]["build"])

    oldest = PYTHONS[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"find_package(Python {oldest} " in (ROOT / "CMakeLists.txt").read_text()


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    source = (ROOT / PROJECT["tool"]["scikit-build"]["metadata"]["version"]["input"]).read_text()
    assert re.findall(r"^__version__ = \"(.*)\"$", source, re.MULTILINE) == [loosestep.__version__]
    others = [ROOT / name for name in ("CMakeLists.txt", "CITATION.cff", "README.md")]
    assert not [file.name for file in others if loosestep.__version__ in file.read_text()]
    assert f"## {loosestep.__version__}" in (ROOT / "CHANGELOG.md").read_text()
