"""What the pages promise of their own text: code runs, named files exist, every public name has a page."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import loosestep

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# compiled only: "
FRAGMENTS = {DOCS / "torch.md"}  # whose blocks are parts of the reader's loop
PLACES = (ROOT, ROOT / "python" / "loosestep", DOCS, ROOT / "csrc", ROOT / "csrc" / "models")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|hpp|cpp|cu|cuh|sh|pyi)|(?:[\w.-]+/)+)`")
PATHS = sorted([DOCS / "design.md", DOCS / "concepts.md", DOCS / "cuda.md", *DOCS.glob("decisions/*.md")])


def name(page: Path) -> str:
    return str(page.relative_to(DOCS))


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace; a block that says why it cannot run here is compiled."""
    monkeypatch.chdir(tmp_path)
    for framework in {"sparse": ["sklearn"], "jax": ["jax", "optax"], "adversarial": ["torch"]}.get(page.stem, []):
        pytest.importorskip(framework)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where the classes of a page live
    for number, text in enumerate(blocks(page), 1):
        code = compile(text, f"{name(page)}, block {number}", "exec", dont_inherit=True)
        if page not in FRAGMENTS and not text.startswith(NOT_RUN):
            exec(code, vars(module))


@pytest.mark.parametrize("page", PATHS, ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {file for file in FILE.findall(page.read_text()) if "NAME" not in file}
    assert {file for file in named if not any((place / file).exists() for place in PLACES)} == set()


def test_every_public_name_has_a_page() -> None:
    """The pages of docs/api list names by the folder in which they are written."""
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    shown = {f"loosestep.{folder}" for folder in re.findall(r":of: (\w+)", text)}
    shown |= set(re.findall(r"\{members\} ([\w.]+)", text))
    for public in loosestep.__all__:
        value = getattr(loosestep, public)
        home = f"loosestep.{public}" if inspect.ismodule(value) else ".".join(value.__module__.split(".")[:2])
        assert home in shown, f"no page of docs/api shows loosestep.{public}"


def test_decisions_are_numbered_and_listed() -> None:
    pages = sorted(page.stem for page in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert re.findall(r"^(\d{4}-[\w-]+)$", (DOCS / "decisions" / "index.md").read_text(), re.MULTILINE) == pages
