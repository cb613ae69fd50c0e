"""How many workers process samples in a round, and how that number is found: by groups that try others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np

from loosestep.strategies.base import State

Groups: TypeAlias = "list[tuple[int, ...]]"


def sizes(workers: int) -> list[int]:
    """Return the sizes of the groups that try: 1, 4, 16, ..., and what is left.

    >>> sizes(2), sizes(4), sizes(8), sizes(64)
    ([2], [1, 3], [1, 7], [1, 4, 16, 43])
    """
    found, left, size = [], workers, 1
    while left:
        found.append(left if left <= 2 * size else size)
        left -= found[-1]
        size *= 4
    return found


def beginning(degree: int, workers: int) -> State:
    """Return where a run begins.

    kept: stretches of samples that are in the result. rounds: that are over. done: each worker's stretches. first:
    the worker with which the next round begins. wait: rounds until groups try again. pause: how many come between.
    """
    return State(kept=0, rounds=0, done=[0] * workers, first=0, degree=degree, wait=0, pause=0, degrees=[])


def groups(state: State, whole: int, seed: int, *, tuned: bool) -> Groups:
    """Return the groups of the coming round: one, or several that try degrees, drawn by the seed.

    whole: stretches of each worker in the run. The lengths of the groups are their degrees. Those come first that
    have done least, and none that has done all: in the end each sample was processed as often as others.
    """
    workers = len(state.done)
    going_on = [rank for rank, done in enumerate(state.done) if done < whole]
    if tuned and state.wait == 0 and len(sizes(workers)) > 1 and len(going_on) == workers:
        drawn = np.random.default_rng((seed, state.rounds, 5)).permutation(workers).tolist()
        # Who is ahead is where work is likely to be undone: so none falls behind in one trial after another.
        drawn.sort(key=state.done.__getitem__, reverse=state.degree == workers)
        edges = accumulate(sizes(workers), initial=0)
        return [tuple(sorted(drawn[low:high])) for low, high in pairwise(edges)]
    going_on.sort(key=lambda rank: (state.done[rank], (rank - state.first) % workers))
    return [tuple(sorted(going_on[: state.degree]))]


def go_on(state: State, tried: Groups, best: int) -> None:
    """Record that a round is over, and which of its groups is kept.

    The largest group stands for all workers: it is as large as it can be while others try.
    """
    chosen: Sequence[int] = tried[best]
    workers = len(state.done)
    state.rounds += 1
    state.kept += len(chosen)
    state.done = [done + (rank in chosen) for rank, done in enumerate(state.done)]
    state.degrees.append(len(chosen))
    if len(tried) == 1:
        state.first = (state.first + len(chosen)) % workers
        state.wait = max(0, state.wait - 1)
        return
    degree = workers if best == len(tried) - 1 else len(chosen)
    state.pause = (2 * state.pause if degree == state.degree else 0) or 1
    state.degree, state.wait = degree, state.pause
