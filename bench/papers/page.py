"""Running a study, with what was run before, and writing its page."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import ModuleType

from bench.papers.drawing import draw
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, cell
from bench.papers.types import Contender, Found, Made, Run
from loosestep.foundation.files import replace as replace_file
from loosestep.planner.probing.fit import processor

ROWS_FROM = "Fashion-MNIST is read from Debian's package `dataset-fashion-mnist`, or else downloaded once."


@dataclass
class Saved:
    """The runs in a JSON file, one a line, by setting and seed."""

    file: Path
    again: str | None  # runs of labels that hold this are not taken from there

    def __post_init__(self) -> None:
        self.runs: dict[tuple[str, int], Run] = {}
        for told in json.loads(self.file.read_text()) if self.file.exists() else []:
            run = unpacked(told)
            self.runs[run.setting, run.seed] = run

    def find(self, contender: Contender, seed: int) -> Run | None:
        """A run that need not be made again."""
        stale = self.again is not None and self.again in contender.label
        return None if stale else self.runs.get((contender.setting, seed))

    def keep(self, run: Run) -> None:
        """Remember it at once: whoever is interrupted goes on from here."""
        self.runs[run.setting, run.seed] = run
        self.write(self.runs)

    def write(self, runs: dict[tuple[str, int], Run]) -> None:
        lines = ",\n".join(json.dumps(packed(run)) for run in runs.values())
        replace_file(self.file, f"[\n{lines}\n]\n".encode())

    def forget_others(self, runs: Sequence[Run]) -> None:
        """Keep what the page rests on."""
        self.write({(run.setting, run.seed): run for run in runs})


def packed(run: Run) -> dict[str, object]:
    """A run as an object in JSON; its points as a column for each name."""
    names = list(dict.fromkeys(name for at in run.points for name in at))
    columns = {name: [at.get(name) for at in run.points] for name in names}
    made = {"made": asdict(run.made)} if run.made else {}
    return {"setting": run.setting, "seed": run.seed, "diverged": run.diverged, **made, "points": columns}


def unpacked(told: dict[str, object]) -> Run:
    columns = told["points"]
    rows = zip(*columns.values(), strict=True)
    points = [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]
    made = Made(**told["made"]) if "made" in told else None
    return Run(told["setting"], told["seed"], points, told["diverged"], made)


def carry_out(name: str, module: ModuleType, out: Path, *, smoke: bool, again: str | None) -> None:
    """Run what is missing; write the JSON, the picture and the page."""
    module.STUDY.check()
    study: Study = module.STUDY.smoke() if smoke else module.STUDY
    out.mkdir(parents=True, exist_ok=True)
    saved = Saved(out / f"{name}.json", again)
    run = partial(one, study, saved=saved)
    chosen = [study.chosen(each, run) for each in study.contenders]
    found = {each: [run(each, seed) for seed in study.seeds] for each in chosen}
    tried = [run(one, study.tuning_seed) for each in study.contenders for one in each.candidates()]
    saved.forget_others([*chain.from_iterable(found.values()), *tried])
    draw(study.pictures, found, out / f"{name}.png")
    (out / f"{name}.md").write_text(text(name, module, study, found, tried))


def one(study: Study, contender: Contender, seed: int, saved: Saved) -> Run:
    """Return a run of before, or carry one out, with a line that says how it went."""
    before = saved.find(contender, seed)
    if before is not None:
        return before
    start = time.perf_counter()
    run = study.run(contender, seed)
    took = time.perf_counter() - start
    run = replace(run, made=Made(revision(), processor(), round(took, 1)))
    saved.keep(run)
    place = " ".join(filter(None, (contender.panel, "" if contender.at is None else f"at {contender.at:g}")))
    print(f"{contender.label} {place} seed {seed}: {cell(ACCURACY, [run])}% in {took:.1f} s", flush=True)
    return run


def text(name: str, module: ModuleType, study: Study, found: Found, tried: Sequence[Run]) -> str:
    """The page."""
    title, _, asked = (module.__doc__ or "").strip().partition("\n")
    tables = ["\n".join(table.lines(found)) for table in study.tables]
    seeds = f"Mean ± standard deviation over {len(study.seeds)} seeds"
    how = f"{seeds}; lines are means, bands and bars reach from the least to the greatest."
    parts = [f"# {title.rstrip('.')}", asked.strip(), how, *tables, f"![{title}]({name}.png)"]
    made = origin(name, [*chain.from_iterable(found.values()), *tried])
    parts += [module.FINDINGS.strip(), made, trials(study), settings(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def origin(name: str, runs: Sequence[Run]) -> str:
    """Return the sentence that says how to make the page again, and how it was made."""
    told = f"Made by `python -m bench.papers {name}`; every run is in [{name}.json]({name}.json)."
    if any(
        "data='fashion-mnist" in run.setting and "test_accuracy" in run.points[0] for run in runs if run.points
    ):
        told += f" {ROWS_FROM}"
    known = [run.made for run in runs if run.made]
    if not known:
        return told
    commits, machines = (sorted({getattr(made, what) for made in known}) for what in ("commit", "machine"))
    minutes = sum(made.seconds for made in known) / 60
    part = "" if len(known) == len(runs) else f" {len(known)} of"
    took = f"The{part} {len(runs)} runs took {minutes:.1f} minutes together"
    return f"{told} {took}, on {'; '.join(machines)}, at commit {', '.join(commits)}."


def trials(study: Study) -> str:
    """Return a table of what was tried on the tuning seed, for contenders that were tuned."""
    rows: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    for each in (one for one in study.contenders if one.tried):
        told = rows.setdefault((each.panel, each.label), {})
        told.setdefault(f"{len(each.tried)} | {tried(each)}", []).append(each.at)
    lines = [
        f"| {panel or ' '} | {label}{places(at) if len(told) > 1 else ''} | {text} |"
        for (panel, label), told in rows.items()
        for text, at in told.items()
    ]
    head = f"| panel | method | tried on seed {study.tuning_seed} | what |"
    return "\n".join([head, "|---|---|---|---|", *lines]) if lines else ""


def places(at: Sequence[float | None]) -> str:
    return f" ({', '.join(f'{each:g}' for each in at if each is not None)})"


def tried(contender: Contender) -> str:
    """Return the strategies, if there are several, and the optimizers with the rates of each."""
    strategies = {repr(rule): None for rule, _ in contender.tried}
    rates: dict[str, dict[str, None]] = {}
    for _, local in contender.tried:
        plain = replace(local, rate=type(local)().rate)  # type: ignore[type-var]
        rates.setdefault(repr(plain), {})[
            f"{local.rate:g}" if isinstance(local.rate, float) else repr(local.rate)
        ] = None
    kinds = [f"`{', '.join(strategies)}`"] * (len(strategies) > 1)
    return "; ".join([*kinds, *(f"`{kind}` at rates {', '.join(each)}" for kind, each in rates.items())])


def settings(found: Found) -> str:
    """Every contender as it was run."""
    rows = [f"| {each.panel or ' '} | {each.label} | `{each.shown}` |" for each in found]
    head = "| panel | method | settings (the rest: defaults of bench/papers/study.py) |"
    return "\n".join([head, "|---|---|---|", *rows])


@cache
def revision() -> str:
    """Return the commit that runs, with a plus sign if the library or a study differs from it."""
    root = Path(__file__).parents[2]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    if commit.returncode:
        return "unknown"
    status = ["git", "status", "--porcelain", "--untracked-files=no", "python", "bench", "csrc", "kernels"]
    changed = subprocess.run(status, cwd=root, capture_output=True, text=True).stdout
    return commit.stdout.strip() + ("+" if changed else "")
