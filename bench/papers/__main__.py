"""`python -m bench.papers NAME [--smoke] [--out FOLDER] [--again TEXT]`: an experiment of `studies`, or all."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from bench.papers.page import carry_out
from loosestep import _core
from loosestep.cli import blas_threads

FOLDER = Path(__file__).parent / "studies"
RESULTS = FOLDER.parents[2] / "docs" / "results"


def names() -> list[str]:
    """Return the names of the studies: the modules of the folder."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.papers", description=__doc__)
    parser.add_argument("name", choices=[*names(), "all"])
    parser.add_argument("--smoke", action="store_true", help="a few steps on made-up rows: does it run?")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="docs/results; with --smoke a temporary one")
    parser.add_argument("--again", metavar="TEXT", help="run again what has TEXT in its label ('' for all)")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    _core.set_threads(1)  # two that share one core with others wait for each other longer than they compute
    with tempfile.TemporaryDirectory() as folder, blas_threads.one_thread():
        out = given.out or (Path(folder) if given.smoke else RESULTS)
        for name in names() if given.name == "all" else [given.name]:
            module = importlib.import_module(f"bench.papers.studies.{name}")
            carry_out(name, module, out, smoke=given.smoke, again=given.again)
            print(f"{name}: {out / f'{name}.md'}", flush=True)


if __name__ == "__main__":
    main()
