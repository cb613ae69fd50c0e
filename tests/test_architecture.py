"""The shape of the source: arrows point one way, frameworks stay in their place, files and functions stay small.

An exception is a line with its reason.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from types import FunctionType
from typing import Any

import pytest
from tests.contract.discovery import discover

from loosestep import strategies
from loosestep.foundation.value import Value
from loosestep.strategies.base import Strategy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "loosestep"
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

LAYERS = [
    "foundation ops cuda _core",
    "requests data",
    "strategies optimizers topologies codecs lowering",
    "transports",
    "runtime adversarial",
    "torch jax sparse planner splash",
    "loosestep cli __main__",
]
"""From the bottom up. A file imports what is in its layer or below; `loosestep` is the package's own face."""

PLACE = {name: number for number, names in enumerate(LAYERS) for name in names.split()}

STRATEGIES_SEE = {"requests", "ops", "topologies", "codecs", "optimizers", "foundation", "strategies"}
METHODS = {
    "strategies": (
        "base", "clusters", "coded", "delayed", "gossip", "levels", "round_robin", "row_means", "scoping",
        "sparse_average",
    ),
    "topologies": ("base",),
}  # fmt: skip
"""Folders of methods, with their files that several methods share."""
DEFAULTS_OF_WRAPPERS = {
    "strategies.allreduce_sgd",
    "strategies.local_sgd",
    "topologies.ring",
}  # what one that wraps others may name
STRATEGIES_IMPORT = {
    "__future__",
    "typing",
    "dataclasses",
    "enum",
    "math",
    "collections",
    "itertools",
    "random",
    "abc",
    "types",
}

THIRD_PARTY = {
    "numpy": "",  # everywhere
    "safetensors": "runtime/checkpoint cli/report",
    "rich": "cli",
    "click": "cli",
    "sklearn": "data sparse",
    "scipy": "sparse",
    "matplotlib": "cli/report",
    "threadpoolctl": "cli/blas_threads",
    "mpi4py": "transports/mpi",
    "zmq": "transports/zmq",
    "cloudpickle": "cli/launch",
    "torch": "torch",
    "jax": "jax",
    "optax": "jax",
    "transformers": "torch/frameworks/huggingface",
    "lightning": "torch/frameworks/lightning",
    "accelerate": "torch/frameworks/accelerate",
    "cupy": "cuda/cupy",
    "arviz_stats": "runtime/sampling/samples",
}
"""Where a framework may be imported: nowhere else."""

OPTIONAL = {"torch", "mpi4py", "zmq", "transformers", "lightning", "accelerate"}

OTHERS = [
    file for place in ("bench", "tests") for file in (ROOT / place).rglob("*.*") if "__pycache__" not in file.parts
]
FOLDERS = sorted({file.parent for file in [*FILES, *OTHERS]})
MANY = {
    "python/loosestep/strategies": 100,  # one method a file
    "tests/papers": 100,  # their tests
    "bench/papers/studies": 100,  # one experiment a file
    "tests": 23,  # folders by kind of test, and tests of the project as a whole
    "python/loosestep/sparse": 22,  # estimators with their parts
    "python/loosestep/transports/processes": 21,  # the parts of one engine, one a file
    "python/loosestep": 23,  # the folders of seven layers, and four files whose place Python prescribes
}
"""How many entries a folder may hold, where it is more than 20, and why."""

LONG_FILES = {
    "python/loosestep/__init__.py": 300,  # every public name twice: imported, and listed for type checkers
}
LONG_FUNCTIONS: dict[str, int] = {}
LONG_SOURCES: dict[str, int] = {}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def name(file: Path) -> str:
    """Dotted, below the package: 'transports.threads', 'loosestep' for the package itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) or "loosestep"


NAMES = {name(file) for file in FILES}


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Every module that a file imports, also for types alone and inside functions."""
    return tuple(imported(file))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if module == "loosestep" or whole.removeprefix("loosestep.") in NAMES else module


def inner(file: Path) -> list[str]:
    """What of this package a file imports, dotted."""
    found = [module.removeprefix("loosestep.") for module in imports(file) if module.split(".")[0] == "loosestep"]
    return [module if module.split(".")[0] in PLACE else "loosestep" for module in found]


def of_each(files: Sequence[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a check of a file: it fails with what is wrong in each of the files."""

    def made(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for file in files:
                try:
                    check(file)
                except AssertionError as error:
                    wrong.append(f"{file.relative_to(ROOT)}: {error}")
            assert not wrong, "\n".join(wrong)

        return test

    return made


each_file = of_each(FILES)


# --- arrows ------------------------------------------------------------------------------------------------


@each_file
def test_a_file_has_a_layer(file: Path) -> None:
    assert name(file).split(".")[0] in PLACE, "say in LAYERS where it belongs"


@each_file
def test_imports_point_down(file: Path) -> None:
    mine = name(file).split(".")[0]
    for module in inner(file):
        other = module.split(".")[0]
        if other != mine:
            assert PLACE[other] <= PLACE[mine], f"{name(file)} imports {module}, which is above it"
        assert {mine, other} != {"strategies", "lowering"}, (
            f"{name(file)} imports {module}: the two do not see each other"
        )


@each_file
def test_methods_do_not_know_each_other(file: Path) -> None:
    """One strategy or topology a file; only a default may be another's, and bases are everybody's."""
    family, *rest = name(file).split(".")
    if rest and family in METHODS:
        seen = {module for module in inner(file) if module.split(".")[0] == family}
        assert seen - DEFAULTS_OF_WRAPPERS <= {f"{family}.{base}" for base in METHODS[family]}


def test_no_two_files_need_each_other() -> None:
    """Removing files that import nothing left, again and again, leaves none."""
    left = {name(file): set(inner(file)) & NAMES - {name(file)} for file in FILES}
    while ready := {each for each, needed in left.items() if not needed}:
        left = {each: needed - ready for each, needed in left.items() if each not in ready}
    assert left == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_fits_on_a_screen(folder: Path) -> None:
    """At most 20 entries that are kept; a folder of methods, or of their tests, has one method a file."""
    listed = subprocess.run(
        ["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert len({line.split("/")[0] for line in listed.splitlines()}) <= MANY.get(str(folder.relative_to(ROOT)), 20)


@of_each(sorted((PACKAGE / "strategies").glob("*.py")))
def test_strategies_see_requests_and_arithmetic_only(file: Path) -> None:
    for module in imports(file):
        first, *rest = module.split(".")
        if module.removeprefix("loosestep.") in DEFAULTS_OF_WRAPPERS:
            continue
        assert (rest[0] in STRATEGIES_SEE) if first == "loosestep" else first in STRATEGIES_IMPORT, module


@each_file
def test_frameworks_are_imported_in_their_place(file: Path) -> None:
    here = name(file).replace(".", "/")
    for module in imports(file):
        first = module.split(".")[0]
        if first in sys.stdlib_module_names or first == "loosestep":
            continue
        assert first in THIRD_PARTY, f"{first} is new: say in THIRD_PARTY where it may be imported"
        places = THIRD_PARTY[first].split()
        assert not places or any(here == place or here.startswith(f"{place}/") for place in places), module


def test_run_alone_joins_strategy_model_and_transport() -> None:
    joining = []
    for file in FILES:
        seen = set(inner(file))
        if "runtime.numpy_model" in seen and {"lowering", "transports"} <= {
            module.split(".")[0] for module in seen
        }:
            joining.append(name(file))
    assert joining == ["runtime.run"]


def test_importing_it_imports_no_framework() -> None:
    code = "import sys, loosestep; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = run_python(code).split()
    assert not {"torch", "mpi4py", "zmq", "cupy", "jax", "sklearn", "scipy", "matplotlib", "rich", "click"} & set(
        loaded
    )


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# --- native sources ----------------------------------------------------------------------------------------

SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".hpp", ".cpp"))


@of_each(SOURCES)
def test_native_sources_are_small_and_know_python_in_bind_alone(source: Path) -> None:
    text, folder = source.read_text(), source.relative_to(ROOT / "csrc").parts[0]
    limit = LONG_SOURCES.get(str(source.relative_to(ROOT)), 250)
    assert len(text.splitlines()) <= limit
    if folder != "bind":
        assert "pybind11" not in text
        assert "Python.h" not in text
    assert "mpi.h" not in text
    if folder == "rules":  # one formula for one element: loops are elsewhere
        assert not [line for line in text.splitlines() if line.strip().startswith(("for ", "for(", "while "))]


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_a_native_folder_fits_on_a_screen(folder: Path) -> None:
    if folder.name != "rules":  # one rule a file
        assert len(list(folder.iterdir())) <= 20


NATIVE_LAYERS = ("rules", "cpu", "codecs", "shared", "shm", "heartbeat", "simulated", "models", "svmlight", "bind")
"""The folders of csrc from the bottom up, as docs/design.md has them."""


@of_each(SOURCES)
def test_native_includes_point_down(source: Path) -> None:
    mine = NATIVE_LAYERS.index(source.relative_to(ROOT / "csrc").parts[0])
    included = re.findall(r'^#include "(\w+)/', source.read_text(), re.MULTILINE)
    assert all(NATIVE_LAYERS.index(folder) <= mine for folder in included)


# --- sizes -------------------------------------------------------------------------------------------------


@each_file
def test_a_file_is_small(file: Path) -> None:
    limit = LONG_FILES.get(str(file.relative_to(ROOT)), 60 if file.name == "__init__.py" else 400)
    assert len(file.read_text().splitlines()) <= limit


@cache
def lengths() -> dict[str, int]:
    """Lines of every function, docstrings and decorators left out."""
    found = {}
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                doc = (first.end_lineno or 0) - first.lineno + 1 if said and ast.get_docstring(node) else 0
                found[f"{name(file)}.{node.name}:{node.lineno}"] = (node.end_lineno or 0) - node.lineno + 1 - doc
    return found


def test_functions_are_small() -> None:
    found = lengths()
    assert median(found.values()) <= 8
    assert quantiles(found.values(), n=10)[-1] <= 25
    long = {where: lines for where, lines in found.items() if lines > LONG_FUNCTIONS.get(where.split(":")[0], 60)}
    assert not long


def test_the_measure_measures() -> None:
    assert len(lengths()) > 300
    assert max(lengths().values()) > 20


@of_each(PAGES)
def test_no_page_holds_the_marks_of_a_merge(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [line for line in lines if line.startswith(("<<<<<<< ", ">>>>>>> ")) or line == "======="] == []


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "misc", "base_impl"])
def test_no_drawers(word: str) -> None:
    assert not list(PACKAGE.rglob(f"*{word}*"))


# --- words -------------------------------------------------------------------------------------------------


@each_file
def test_a_file_says_what_it_is_for(file: Path) -> None:
    text = ast.get_docstring(tree(file)) or ""
    assert text
    assert text.splitlines()[0].endswith((".", "?", ":"))


@pytest.mark.parametrize("kind", discover(strategies, Strategy))
def test_a_strategy_says_its_formula_its_cost_an_example_and_a_reference(kind: type[Strategy]) -> None:
    text = inspect.getdoc(kind) or ""
    assert "<-" in text, "the formula"
    assert "A round sends" in text or "No messages" in text
    assert ">>> import loosestep as ls" in text
    assert "\nReference: " in text
    for field in fields(kind):
        assert f"\n{field.name}: " in text, f"what {field.name} means"


def can_import(file: Path) -> bool:
    """Whether the optional frameworks of a file are there (`torch.py` of ours imports its own by the adapter)."""
    wanted = {module.split(".")[0] for module in imports(file)} & OPTIONAL
    of_folder = {"torch": {"torch"}, "jax": {"jax", "optax"}}.get(name(file).split(".")[0], set())
    return all(importlib.util.find_spec(each) for each in wanted | of_folder)


def examples() -> list[Any]:
    modules = ["loosestep" if name(file) == "loosestep" else f"loosestep.{name(file)}" for file in FILES]
    finder, found = doctest.DocTestFinder(), []
    for file, module in zip(FILES, modules, strict=True):
        if module != "loosestep.__main__" and can_import(file):
            found += [test for test in finder.find(importlib.import_module(module)) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_run_as_written(example: doctest.DocTest) -> None:
    outcome = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(example)
    assert outcome.attempted
    assert not outcome.failed


def test_every_strategy_has_an_example_that_runs() -> None:
    told = {test.name.rsplit(".", 1)[-1] for test in examples()}
    assert {kind.__name__ for kind in discover(strategies, Strategy)} <= told


# --- composition -------------------------------------------------------------------------------------------


def rewritten() -> list[str]:
    """Methods of sessions, and of what they are made of, that a base has written already; values have defaults."""
    found = []
    for file in FILES:
        if not name(file).startswith("transports"):
            continue
        module = importlib.import_module(f"loosestep.{name(file)}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and not issubclass(kind, Value):
                bases = [base for base in kind.__mro__[1:] if base.__module__.startswith("loosestep.transports")]
                found += [
                    f"{kind.__module__}.{kind.__name__}.{each}"
                    for each in vars(kind)
                    for base in bases
                    if not each.startswith("_") and is_written(vars(base).get(each))
                ]
    return found


def is_written(member: Any) -> bool:
    """Whether it is a method or a property with a body of its own."""
    member = getattr(member, "__func__", member)
    return isinstance(member, (FunctionType, property)) and not getattr(member, "__isabstractmethod__", False)


def test_sessions_are_composed_and_rewrite_no_method_of_their_base() -> None:
    assert rewritten() == []
