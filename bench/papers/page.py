"""Running a study, with what was run before, and writing its page."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.papers.drawing import draw
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, cell
from bench.papers.types import Contender, Found, Run


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
        part = self.file.with_suffix(".part")
        part.write_text(f"[\n{lines}\n]\n")
        part.replace(self.file)

    def forget_others(self, found: Found) -> None:
        """Keep what the page shows."""
        self.write({(run.setting, run.seed): run for runs in found.values() for run in runs})


def packed(run: Run) -> dict[str, object]:
    """A run as an object in JSON; its points as a column for each name."""
    names = list(dict.fromkeys(name for at in run.points for name in at))
    columns = {name: [at.get(name) for at in run.points] for name in names}
    return {"setting": run.setting, "seed": run.seed, "diverged": run.diverged, "points": columns}


def unpacked(told: dict[str, object]) -> Run:
    columns = told["points"]
    rows = zip(*columns.values(), strict=True)
    points = [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]
    return Run(told["setting"], told["seed"], points, told["diverged"])


def carry_out(name: str, module: ModuleType, out: Path, *, smoke: bool, again: str | None) -> None:
    """Run what is missing; write the JSON, the picture and the page."""
    module.STUDY.check()
    study: Study = module.STUDY.smoke() if smoke else module.STUDY
    out.mkdir(parents=True, exist_ok=True)
    saved = Saved(out / f"{name}.json", again)
    found = {each: [one(study, each, seed, saved) for seed in study.seeds] for each in study.contenders}
    saved.forget_others(found)
    draw(study.pictures, found, out / f"{name}.png")
    (out / f"{name}.md").write_text(text(name, module, study, found))


def one(study: Study, contender: Contender, seed: int, saved: Saved) -> Run:
    """One run, with a line that says how it went."""
    before = saved.find(contender, seed)
    if before is not None:
        return before
    start = time.perf_counter()
    run = study.run(contender, seed)
    saved.keep(run)
    took = time.perf_counter() - start
    place = " ".join(filter(None, (contender.panel, "" if contender.at is None else f"at {contender.at:g}")))
    print(f"{contender.label} {place} seed {seed}: {cell(ACCURACY, [run])}% in {took:.1f} s", flush=True)
    return run


def text(name: str, module: ModuleType, study: Study, found: Found) -> str:
    """The page."""
    title, _, asked = (module.__doc__ or "").strip().partition("\n")
    tables = ["\n".join(table.lines(found)) for table in study.tables]
    seeds = f"Mean ± standard deviation over {len(study.seeds)} seeds"
    how = f"{seeds}; lines are means, bands and bars reach from the least to the greatest."
    made = f"Made by `python -m bench.papers {name}`; every run is in [{name}.json]({name}.json)."
    parts = [f"# {title.rstrip('.')}", asked.strip(), how, *tables, f"![{title}]({name}.png)"]
    return "\n\n".join(part for part in [*parts, module.FINDINGS.strip(), made, settings(found)] if part) + "\n"


def settings(found: Found) -> str:
    """Every contender as it was run."""
    rows = [f"| {each.panel or ' '} | {each.label} | `{each.shown}` |" for each in found]
    head = "| panel | method | settings (the rest: defaults of bench/papers/study.py) |"
    return "\n".join([head, "|---|---|---|", *rows])
