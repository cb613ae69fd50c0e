"""`python -m bench NAME [--json FILE] [--smoke]`: runs a benchmark of this folder, or `all` of them."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from bench.harness import Options, Row, table


def names() -> list[str]:
    """Every module here that has rows is a benchmark; the others are machinery."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if "\ndef rows(" in file.read_text())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*names(), "all"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, a few seconds: does it run?")
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (at least 15)")
    parser.add_argument("--attempts", type=int, default=4, help="at most so many times the rounds")
    parser.add_argument("--patience", type=float, default=10, help="seconds to wait for a quiet machine")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name holds this")
    parser.add_argument("--mpich", default="", metavar="PYTHON", help="collectives: an interpreter with MPICH")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    options = Options(given.smoke, given.rounds, given.attempts, given.patience, given.only, given.mpich)
    rows: list[Row] = []
    for name in names() if given.name == "all" else [given.name]:
        module = importlib.import_module(f"bench.{name}")
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
    main()
