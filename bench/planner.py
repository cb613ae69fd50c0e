"""How far the planner's first choice is from the best of its grid, and how fast it prices configurations.

    python -m bench.planner [--only regret|speed] [--json FILE]

Regret: for 12 clusters (6 links, 4 and 8 workers) the planner chooses among strategies and periods, from prices
without numbers and from steps to a loss that were counted once for each number of workers, on seed 0. Then every
candidate is run with numbers on every cluster, in virtual time: on the seed on which steps were counted, and on
one other. The regret is by how much the choice takes longer than the best of them. Seconds are virtual: they do
not depend on the machine.

Speed: processor seconds of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import loosestep as ls
from loosestep.foundation import units
from loosestep.planner.methods import Candidate, MethodPlan, SmallProblem, Trial, named, plan
from loosestep.planner.methods.grid import label
from loosestep.planner.methods.small_problem import course_of

LINKS = ("10 GbE", "1 GbE", "1 Gbit/s WAN", "100 Mbit/s WAN", "TCP over the internet")
OTHER = "1 ms, 10 Gbit/s"
PARAMETERS, STEP = 10_000_000, 0.05
PERIODS, BUCKETS = (2, 8, 32), (1 << 20, 25 << 20)
STRATEGIES = (
    ls.AllReduceSGD(),
    ls.LocalSGD(),
    ls.SlowMo(),
    ls.CoCoDSGD(),
    ls.StreamingDiLoCo(),
    ls.EASGD(),
    ls.CDSGD(),
)
SEEDS = (1,)
PROBLEM = SmallProblem(loss=0.2, longest=500)


@dataclass(frozen=True)
class Found:
    """What was chosen on one cluster, and what every candidate took with numbers."""

    links: str
    plan: MethodPlan
    untold: MethodPlan  # without steps
    same: Mapping[Candidate, float]  # seconds on the seed on which steps were counted
    others: Mapping[Candidate, float]  # the mean over other seeds
    cpu: float  # processor seconds of the plan, steps not counted

    def regret(self, seconds: Mapping[Candidate, float], choice: ls.Strategy | None = None) -> float:
        """By how much a strategy, by default the choice, takes longer than the best."""
        wanted = choice or self.plan.best.strategy
        mine = next((value for each, value in seconds.items() if each.strategy == wanted), float("inf"))
        return mine / min(seconds.values()) - 1

    def second(self, seconds: Mapping[Candidate, float]) -> tuple[Candidate, float]:
        """The first choice where the best method is left out, and its regret among what is left."""
        kind = type(self.plan.best.strategy)
        left = {each: value for each, value in seconds.items() if not isinstance(each.strategy, kind)}
        choice = min(left, key=lambda each: each.seconds)
        return choice, left[choice] / min(left.values()) - 1

    def error(self) -> float:
        """The largest share by which the seconds that were predicted differ from those with numbers."""
        return max(abs(each.seconds / value - 1) for each, value in self.same.items())


def clusters(names: Sequence[str], workers: Sequence[int]) -> list[tuple[str, ls.Simulated]]:
    """The clusters, by the name of their links."""
    return [(name, ls.Simulated(n, STEP, *named(name))) for n in workers for name in names]


def with_numbers(
    tried: Sequence[Candidate], on: ls.Simulated, known: Mapping[Any, Trial], seeds: Sequence[int]
) -> dict[Candidate, float]:
    """The seconds that candidates take to the loss with numbers, the mean over seeds; of those that reach it."""
    factors = {trial.strategy: trial.factor for trial in known.values()}
    found = {}
    for each in tried:
        if each.steps is None:
            continue
        factor = factors[course_of(each.strategy)]
        trials = [PROBLEM.trial(each.strategy, on, PARAMETERS, factor=factor, seed=seed) for seed in seeds]
        seconds = [trial.seconds for trial in trials if trial.seconds is not None]
        if len(seconds) == len(seeds):
            found[each] = mean(seconds)
    return found


def regrets(names: Sequence[str], workers: Sequence[int], smoke: bool) -> list[Found]:
    """What is chosen on every cluster, and what it is worth."""
    found, known = [], {}
    strategies, seeds = (STRATEGIES[:3], SEEDS[:1]) if smoke else (STRATEGIES, SEEDS)
    for name, on in clusters(names, workers):
        begun = time.process_time()
        untold = plan(PARAMETERS, on, strategies=strategies, periods=PERIODS, buckets=BUCKETS)
        cpu = time.process_time() - begun
        mine: dict[Any, Trial] = {key: trial for key, trial in known.items() if key[1] in (on, on.size)}
        steps = PROBLEM.steps([each.strategy for each in untold.tried], on, PARAMETERS, known=mine)
        known |= mine
        told = untold.to_loss(steps)
        same = with_numbers(told.tried, on, mine, (0,))
        others = with_numbers(told.tried, on, mine, seeds)
        found.append(Found(name, told, untold, same, others, cpu))
        print(row(found[-1]), flush=True)
    return found


def row(found: Found) -> str:
    """A row of the page's table."""
    on, best = found.plan.on, min(found.others, key=lambda each: found.others[each])
    allreduce = min(
        (each for each in found.others if isinstance(each.strategy, ls.AllReduceSGD)),
        key=lambda each: found.others[each],
    )
    cells = [
        found.links,
        str(on.size),
        f"`{label(found.plan.best.strategy)}`",
        units.seconds(found.plan.best.seconds),
        percent(found.regret(found.same)),
        percent(found.regret(found.others)),
        f"`{label(best.strategy)}`",
        percent(found.regret(found.others, found.untold.best.strategy)),
        percent(found.regret(found.others, allreduce.strategy)),
        f"`{label(found.second(found.others)[0].strategy)}`",
        percent(found.second(found.others)[1]),
        percent(found.error()),
        str(len(found.same)),
    ]
    return f"| {' | '.join(cells)} |"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%" if value < 10 else f"{value + 1:.0f} times"


COLUMNS = (
    "links",
    "workers",
    "choice",
    "planned s",
    "regret, seed 0",
    "regret, seed 1",
    "best of seed 1",
    "without steps",
    "AllReduceSGD",
    "choice among other methods",
    "its regret, seed 1",
    "largest error",
    "candidates",
)


def speed(smoke: bool) -> dict[str, float]:
    """Configurations and processor seconds of large plans."""
    found = {}
    for n in (4, 16, 64)[: 1 if smoke else 3]:
        on = ls.Simulated(n, 0.2, 5e-3, 1.25e8)
        periods = range(1, 65)
        begun = time.process_time()
        made = plan(30_000_000, on, periods=periods)
        seconds = time.process_time() - begun
        count = len(made.tried)
        found[f"{n} workers"] = seconds
        print(f"{n} workers: {count} configurations in {seconds:.2f} s, {1000 * seconds / count:.2f} s for 1,000")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("regret", "speed"))
    parser.add_argument("--links", nargs="+", default=[*LINKS, OTHER], metavar="NAME")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    content: dict[str, Any] = {}
    if given.only != "regret":
        content["speed"] = speed(given.smoke)
    if given.only != "speed":
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        found = regrets(given.links[:1] if given.smoke else given.links, given.workers, given.smoke)
        for name in ("same", "others"):
            all_of = [each.regret(getattr(each, name)) for each in found]
            print(f"{name}: regret at most {percent(max(all_of))}, mean {percent(mean(all_of))}")
        content["regret"] = [
            {
                "links": each.links,
                "workers": each.plan.on.size,
                "choice": label(each.plan.best.strategy),
                "planned": each.plan.best.seconds,
                "seed 0": {label(one.strategy): value for one, value in each.same.items()},
                "seed 1": {label(one.strategy): value for one, value in each.others.items()},
            }
            for each in found
        ]
    if given.json:
        given.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
