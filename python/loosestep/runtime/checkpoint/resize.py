"""Resuming with another number of workers: the parts of a checkpoint are merged, and all workers begin alike.

Kept: the consensus, where every worker begins; the mean of the optimizer's buffers; the furthest counters; all
totals; the mean of residuals. Dropped: what else a strategy remembers, which it makes anew for these parameters,
and the rest of a round that had begun. The data goes on after each worker's equal share of the batches that were
used in all.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation import units
from loosestep.foundation.buffers import here
from loosestep.requests import Shared
from loosestep.runtime.checkpoint.state import POSITION, place, understood
from loosestep.strategies.base import leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts, Folder
    from loosestep.runtime.program import Program
    from loosestep.strategies.base import State, Strategy
    from loosestep.transports.base import Session
    from loosestep.transports.metered import Meter


def merged(folder: Folder, strategy: Strategy) -> tuple[dict[str, Buffer], list[Facts]]:
    """Return all parts merged into one: `params` is the weighted consensus, other tensors are plain means."""
    facts: list[Facts] = []

    def tensors() -> Iterator[tuple[str, Buffer, float]]:
        for rank in range(folder.workers):
            found, saved = folder.read(rank)
            facts.append(saved)
            weight = part_of(strategy, facts).weigh(standing(rank, folder.workers, saved))
            yield from ((name, tensor, weight if name == "params" else 1.0) for name, tensor in found.items())

    means = mean_by_name(tensors())
    part = part_of(strategy, facts)
    with understood(str(folder.path)):
        means["params"] = joined(means, part, folder.workers)
    kept = part.kept_on_resize
    return {name: mean for name, mean in means.items() if not name.startswith("state.") or name in kept}, facts


def joined(means: dict[str, Buffer], strategy: Strategy, size: int) -> Buffer:
    """Return the consensus; where it is a state, its tensors one after the other, or the mean of whole models."""
    name = strategy.consensus_in
    if name in means:
        return means[name]
    parts = {inner: means[inner] for inner in sorted(means) if inner.startswith(f"{name}.")}
    if len(parts) < 2 or any(part.size != means["params"].size for part in parts.values()):
        return np.concatenate(list(parts.values()))
    named = enumerate(parts.items())
    return mean_by_name((name, part, strategy.weigh_part(place, size)) for place, (_, part) in named)[name]


def part_of(strategy: Strategy, facts: list[Facts]) -> Strategy:
    """Return the strategy of the stage that was running."""
    part: int = (facts[0].get("program") or facts[0].get("position", {})).get("part", 0)
    return strategy.stages[part][0]


def standing(rank: int, size: int, saved: Facts) -> Any:
    """Return what a strategy must know of a worker of the saved run, to weigh its replica."""
    counts = saved.get("worker") or saved["position"]
    return SimpleNamespace(rank=rank, size=size, samples=counts["samples"])


def mean_by_name(tensors: Iterable[tuple[str, Buffer, float]]) -> dict[str, Buffer]:
    """Return by name first + the weighted mean of (each - first), exact where all agree; of integers the first."""
    firsts: dict[str, Any] = {}
    offsets: dict[str, Any] = {}
    totals: defaultdict[str, float] = defaultdict(float)
    for name, tensor, weight in tensors:
        totals[name] += weight
        first = firsts.setdefault(name, tensor)
        if tensor is not first and weight and tensor.dtype.kind == "f":
            offsets[name] = offsets.get(name, 0) + weight * (tensor - first)
    means = {name: np.asarray(firsts[name] + offset / totals[name]) for name, offset in offsets.items()}
    return firsts | means


def report_resize(folder: Folder, strategy: Strategy, size: int) -> None:
    """Print one line about the change of size. Called by rank 0."""
    where = "the mean of the replicas" if strategy.consensus_in == "params" else "the saved center"
    where = "the shared parameters" if "params" in strategy.shared_buffers else where
    wrote = units.times(folder.workers, "worker")
    print(
        f"{folder.path} was written by {wrote} and goes on with {size}: all begin at {where} with the mean of the "
        "optimizer's buffers, the strategy's own state begins anew, data goes on by equal shares",
        file=sys.stderr,
        flush=True,
    )


def begin_anew(program: Program, session: Session, tensors: dict[str, Buffer], where: str) -> None:
    """Set the worker's parameters, and its state to what its strategy makes for them, with what is kept."""
    place(program.worker.params, tensors["params"], "params", where)
    program.state = state_for(program, session)
    for name, _, _, value in leaves(program.state):
        if name in program.strategy.kept_on_resize and name in tensors:
            place(value, tensors[name], name, where)


def state_for(program: Program, session: Session) -> State:
    """Return a state made by `init`, with the existing shared variables set to the values that it gives them."""
    there = {value.name: value for *_, value in leaves(program.state) if isinstance(value, Shared)}

    def share(name: str, like: Buffer) -> Shared:
        if program.worker.rank == 0:
            session.store(there[name], here(like))
        return there[name]

    return program.strategy.init(program.worker.sharing(share))


def rejoin_worker(
    folder: Folder, parts: tuple[dict[str, Buffer], list[Facts]], program: Program, meter: Meter, session: Session
) -> None:
    """Bring a worker of `run` to where a checkpoint of others stood."""
    tensors, facts = parts
    with understood(str(folder.path)):
        rejoin_state(folder, (tensors, facts), program, meter, session)
        taken = sum(saved["taken"] for saved in facts) // program.worker.size
    program.model.feed.skip(taken)


def rejoin_state(
    folder: Folder, parts: tuple[dict[str, Buffer], list[Facts]], program: Program, meter: Meter, session: Session
) -> None:
    """Restore everything but the position in the data."""
    tensors, facts = parts
    worker, where = program.worker, str(folder.path)
    program.enter(facts[0]["program"].get("part", 0))
    begin_anew(program, session, tensors, where)
    for number, moment in enumerate(worker.moments):
        place(moment, tensors.get(f"moment.{number}"), f"moment.{number}", where)
    furthest(program, facts)
    meter.waiting = fmean(saved["meter"]["waiting"] for saved in facts)  # of all workers' time
    if worker.rank == 0:
        take_totals(program, meter, facts)
    session.resume(worker.rank, max(saved["seconds"] for saved in facts))


def furthest(program: Program, facts: list[Facts]) -> None:
    """Set the counters to those of the worker that was furthest; a round that had begun begins again."""
    worker = program.worker
    worker.round = max(saved["worker"]["round"] - bool(saved["program"]["progress"]) for saved in facts)
    for name in ("clock", "updates"):
        setattr(worker, name, max(saved["worker"][name] for saved in facts))
    for name in ("met_at", "looked_at"):
        setattr(program, POSITION[name], max(saved["program"][name] for saved in facts))
    program.model.steps = max(saved["model"]["steps"] for saved in facts)


def take_totals(program: Program, meter: Meter, facts: list[Facts]) -> None:
    """Let worker 0 count on from the sums over all saved workers, so that totals stay."""
    program.model.samples = sum(saved["model"]["samples"] for saved in facts)
    losses, counts = zip(*(saved["model"]["noted"] for saved in facts), strict=True)
    program.model.losses = sum(losses), sum(counts)
    for saved in facts:
        for kind, tally in saved["meter"]["requests"].items():
            before = meter.requests.get(kind, [0, 0, 0])
            meter.requests[kind] = [mine + more for mine, more in zip(before, tally, strict=True)]
