"""The unit tests mirror the source: every module of the engine has its file, and none starts a process."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.looped import looped

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "python" / "loosestep"
MODULES = sorted(
    path.relative_to(PACKAGE)
    for folder in ("transports", "lowering", "runtime")
    for path in (PACKAGE / folder).rglob("*.py")
    if path.name != "__init__.py"
)
FILES = sorted(HERE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})
PROCESSES = {"subprocess", "multiprocessing"}
CALLS = {"fork", "forkpty", "system", "popen", "posix_spawn", "spawnv", "spawnl"}  # of os
ALLOWED = {"mutations.py": {"subprocess"}}  # no test: it runs them


def imported(file: Path) -> set[str]:
    """Modules that a file imports, dotted, and what it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@looped("module", MODULES)
def test_a_module_has_a_file_of_tests_that_imports_it(module: Path) -> None:
    file = HERE / module.parent / f"test_{module.name}"
    assert file.exists(), f"{module} has no unit tests: make {file.relative_to(HERE.parents[1])}"
    assert ".".join(("loosestep", *module.with_suffix("").parts)) in imported(file)
    assert re.search(r"^def test_", file.read_text(), re.MULTILINE)


def test_the_modules_are_found() -> None:
    assert len(MODULES) > 40


@looped("file", FILES)
def test_no_unit_test_starts_a_process(file: Path) -> None:
    assert {module.split(".")[0] for module in imported(file)} & PROCESSES <= ALLOWED.get(file.name, set())
    calls = [node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
    assert not CALLS & set(calls)


@looped("file", FILES)
def test_a_file_of_tests_is_small(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


@looped("folder", FOLDERS)
def test_a_folder_of_tests_fits_on_a_screen(folder: Path) -> None:
    entries = [
        entry for entry in folder.iterdir() if entry.suffix == ".py" or (entry.is_dir() and entry in FOLDERS)
    ]
    assert len(entries) <= 20
