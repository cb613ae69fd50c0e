"""`python -m bench NAME [--json FILE] [--smoke]`: runs a benchmark of this folder, or `all` of them."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from bench.harness import Options, Row, table
from loosestep.foundation.errors import CudaError

PLACES = {"cpu": ("bench", "bench.sparse"), "cuda": ("bench.cuda",)}


def benchmarks(device: str) -> dict[str, str]:
    """Every module for a device that has rows is a benchmark, by its name; the others are machinery."""
    found = {}
    for place in PLACES[device]:
        for file in Path(__file__).parents[1].joinpath(*place.split(".")).glob("*.py"):
            if "\ndef rows(" in file.read_text():
                found[file.stem] = f"{place}.{file.stem}"
    return dict(sorted(found.items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*sorted({*benchmarks("cpu"), *benchmarks("cuda")}), "all"])
    parser.add_argument("--device", choices=PLACES, default="cpu", help="cuda: on a GPU, by its own clock")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, a few seconds: does it run?")
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (at least 15)")
    parser.add_argument("--attempts", type=int, default=4, help="at most so many times the rounds")
    parser.add_argument("--patience", type=float, default=10, help="seconds to wait for a quiet machine")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name holds this")
    parser.add_argument("--mpich", default="", metavar="PYTHON", help="collectives: an interpreter with MPICH")
    given = parser.parse_args()
    if given.name not in (*benchmarks(given.device), "all"):
        parser.error(
            f"{given.name} has nothing to run on {given.device}; there is {', '.join(benchmarks(given.device))}"
        )
    return given


def main() -> None:
    given = arguments()
    options = Options(given.smoke, given.rounds, given.attempts, given.patience, given.only, given.mpich)
    rows: list[Row] = []
    for name in benchmarks(given.device) if given.name == "all" else [given.name]:
        module = importlib.import_module(benchmarks(given.device)[name])
        case: list[Row] = []
        for row in module.rows(options):
            if case and row.case != case[0].case:
                print("\n".join(table(case)), flush=True)
                case = []
            case.append(row)
            rows.append(row)
        print("\n".join(table(case)), flush=True)
    if given.json:
        given.json.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except CudaError as error:
        sys.exit(f"bench: {error}")
