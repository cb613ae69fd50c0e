"""Draws of a sampler, kept in files that grow: a chain for each worker, never in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.runtime.checkpoint import disk

if TYPE_CHECKING:
    from os import PathLike

    from loosestep.requests import Buffer

Array = NDArray[Any]
FACTS = "samples.json"
COLUMNS = 4096  # parameters whose statistics are made at once


class Samples:
    """The draws of a run, in a folder: `run(..., samples=Samples("folder", burn_in=1000, thin=10))`.

    Each worker appends its parameters to a file of its own, a draw every `thin` steps from step `burn_in` on, as
    they are when the next step begins: after the exchange, if there was one. Under `DownpourMCMC` that is the
    center. The consensus of evaluations (`every=`) is a chain of its own, `consensus`; of chains that do not meet
    it is the mean, which is no draw. A draw is one write, so a process that is killed leaves whole ones (a loss of
    power may take the last); a resumed run drops those that are after its checkpoint and makes them again, to the
    bit. In a loop of your own call `record` yourself. Reading maps files into memory and copies nothing.

    burn_in: steps before the first draw. thin: steps between two.

    Raises ValueError for a folder that holds draws already, where the run is not resumed; OSError where the disk
    is full, which leaves whole draws, and where another run writes to the folder.

    >>> import loosestep as ls, numpy as np, tempfile
    >>> batches = lambda rank, size: iter([0.0] * 1100)
    >>> sampler = ls.SGLD(0.2)  # of exp(-x^2 / 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     samples = ls.Samples(folder, burn_in=100, thin=2)
    ...     options = {"optimizer": sampler, "on": ls.Simulated(2), "samples": samples}
    ...     _ = ls.run(ls.OneShotAveraging(), lambda x, b: x - b, np.zeros(1), batches, **options)
    ...     draws = samples.draws()
    >>> draws.shape
    (2, 500, 1)
    >>> bool(abs(draws.var() - 1 / (1 - 0.2 / 2)) < 0.3)
    True
    """

    def __init__(self, folder: str | PathLike[str], burn_in: int = 0, thin: int = 1) -> None:
        self.folder = Path(folder)
        self.burn_in = checks.integer("burn_in", burn_in, 0)
        self.thin = checks.integer("thin", thin)
        self.written: dict[str, Chain] = {}

    # --- writing -----------------------------------------------------------------------------------------

    def begin(self, resume: bool = False) -> None:
        """Make the folder; refuse one with draws in it, unless they are this run's."""
        disk.make_folder(self.folder)
        self.written = {}
        if not resume and any(self.folder.glob("*.chain")):
            raise ValueError(
                f"samples: {self.folder} holds draws already: resume their run, or take another folder"
            )

    def due(self, step: int) -> bool:
        """Return whether a draw is kept of the parameters after so many steps."""
        return step >= self.burn_in and (step - self.burn_in) % self.thin == 0

    def record(self, rank: int, step: int, params: Buffer) -> None:
        """Append a worker's parameters after so many steps to its chain, if a draw is due."""
        if self.due(step):
            self.append(f"worker-{rank:05}", step, params)

    def record_consensus(self, step: int, params: Buffer) -> None:
        """Append what was evaluated, after the burn-in."""
        if step >= self.burn_in:
            self.append("consensus", step, params)

    def append(self, name: str, step: int, params: Buffer) -> None:
        if name not in self.written:
            self.written[name] = Chain(self.folder / f"{name}.chain", self.described(name, params))
        self.written[name].append(step, params)

    def described(self, name: str, params: Buffer) -> np.dtype[Any]:
        """Return the type of a draw, and write it where readers look."""
        facts = self.folder / FACTS
        told = {"dtype": str(params.dtype), "size": int(params.size), "burn_in": self.burn_in, "thin": self.thin}
        if not facts.exists():
            disk.make_folder(self.folder)
            draft = facts.with_name(f"{name}.{os.getpid()}.json")  # every worker may be the first
            draft.write_text(json.dumps(told))
            draft.replace(facts)
        kind = self.kind()
        if kind["x"].base != params.dtype or kind["x"].shape != (params.size,):
            raise ValueError(
                f"samples: {self.folder} holds draws of {kind['x'].shape[0]} {kind['x'].base}, got {params.size} "
                f"{params.dtype}"
            )
        return kind

    # --- reading -----------------------------------------------------------------------------------------

    def kind(self) -> np.dtype[Any]:
        """Return the type of a draw: its step and its parameters. Raises ValueError where there is none."""
        try:
            told = json.loads((self.folder / FACTS).read_text())
            return np.dtype([("step", "<i8"), ("x", told["dtype"], (told["size"],))])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"samples: {self.folder} holds no draws: {error}") from error

    def chain(self, name: str) -> Array:
        """Return the draws of a file as an array of records (`step`, `x`), mapped and read-only."""
        kind, path = self.kind(), self.folder / f"{name}.chain"
        whole = path.stat().st_size // kind.itemsize if path.exists() else 0
        if not whole:
            raise ValueError(f"samples: {path} holds no draws")
        return np.memmap(path, kind, "r", shape=(whole,))

    def names(self) -> list[str]:
        """Return the names of the workers' chains, in rank order."""
        return sorted(path.stem for path in self.folder.glob("worker-*.chain"))

    def chains(self) -> list[Array]:
        """Return the draws of each worker, (draws, parameters), mapped and read-only."""
        return [self.chain(name)["x"] for name in self.names()]

    @property
    def consensus(self) -> Array:
        """The draws of the consensus, (evaluations, parameters), mapped and read-only."""
        found: Array = self.chain("consensus")["x"]
        return found

    def draws(self, part: slice = slice(None)) -> Array:
        """Return a copy of all workers' draws, (chains, draws, parameters), as many of each."""
        names = self.names()
        if not names:
            raise ValueError(f"samples: {self.folder} holds no draws")
        least = min(len(self.chain(name)) for name in names)
        return np.stack([self.chain(name)["x"][:least, part].copy() for name in names])  # one mapped at a time

    def rhat(self) -> Array:
        """Return the rank-normalized split R-hat of each parameter (ArviZ's): below 1.01 chains agree.

        Workers are the chains, so they must be independent: of OneShotAveraging, or of ElasticMCMC with weak
        coupling. nan for one chain, as that of all workers of AllReduceSGD is.
        """
        return self.statistic("rhat")

    def ess(self) -> Array:
        """Return the bulk effective sample size of each parameter (ArviZ's), in independent draws.

        Copies of one chain, as those of all workers of AllReduceSGD, count once.
        """
        return self.statistic("ess")

    def statistic(self, name: str) -> Array:
        """Return a statistic of ArviZ for each parameter."""
        size = self.kind()["x"].shape[0]
        parts = (slice(low, low + COLUMNS) for low in range(0, size, COLUMNS))
        return np.concatenate([of_arviz(name, distinct(self.draws(part))) for part in parts])

    def predict(self, function: Callable[[Array], Any], thin: int = 1) -> Array:
        """Return the posterior predictive mean: of function(draw) over all draws of all workers, every `thin`-th.

        Let it return probabilities, not scores: their mean is what predicts.
        """
        checks.integer("thin", thin)
        total, count = None, 0
        for draw in self.each(thin):
            made = np.asarray(function(draw), np.float64)
            total = made if total is None else total + made
            count += 1
        if total is None:
            raise ValueError(f"samples: {self.folder} holds no draws")
        mean: Array = total / count
        return mean

    def each(self, thin: int = 1) -> Iterator[Array]:
        """Yield the draws of all workers, one in memory at a time."""
        for name in self.names():
            chain = self.chain(name)["x"]
            for number in range(0, len(chain), thin):
                yield np.array(chain[number])


def distinct(draws: Array) -> Array:
    """Return draws (chains, draws, parameters) as one chain where all are copies of one, as of AllReduceSGD."""
    return draws[:1] if (draws == draws[:1]).all() else draws


def of_arviz(name: str, draws: Array) -> Array:
    """Return a statistic of ArviZ, `rhat` or `ess`, of draws (chains, draws, parameters). Raises ImportError."""
    try:
        from arviz_stats.base import array_stats
    except ImportError as error:
        raise ImportError(f"{name}() is ArviZ's: pip install 'loosestep[sampling]'") from error
    return np.atleast_1d(getattr(array_stats, name)(draws, chain_axis=0, draw_axis=1))


class Chain:
    """A file of draws that grows. A draw whose step is not above those before takes the place of what follows."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self.path, self.kind, self.draw = path, kind, np.zeros(1, kind)
        path.touch()
        self.count = path.stat().st_size // kind.itemsize
        self.cut(self.count)  # a part of a draw is all that a kill can leave
        self.last = int(self.steps()[-1]) if self.count else -1

    def steps(self) -> Array:
        """Return the steps of all draws, mapped."""
        found: Array = np.memmap(self.path, self.kind, "r", shape=(self.count,))["step"]
        return found

    def cut(self, count: int) -> None:
        """Keep so many draws."""
        self.count = count
        os.truncate(self.path, count * self.kind.itemsize)

    def append(self, step: int, params: Buffer) -> None:
        """Write a draw, in one call."""
        if self.last >= step:
            self.cut(int(np.searchsorted(self.steps(), step)))
            self.last = step - 1
        self.draw["step"], self.draw["x"] = step, params.reshape(-1)
        with self.path.open("ab", buffering=0) as file:
            whole = self.count * self.kind.itemsize
            if file.tell() != whole:
                raise OSError(f"{self.path} was written by another run meanwhile: give each a folder of its own")
            if file.write(self.draw.tobytes()) != self.kind.itemsize:
                file.truncate(whole)
                raise OSError(
                    f"{self.path}: the disk is full, and took a part of a draw, which was taken off again"
                )
        self.last, self.count = step, self.count + 1
