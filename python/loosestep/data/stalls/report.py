"""What a measurement of a loop found: seconds of its runs, shares of stalls, and a table for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import inf
from textwrap import fill
from typing import Any

from loosestep.data.stalls.rates import Pipeline, Rates
from loosestep.data.stalls.run import Run
from loosestep.foundation import units

UNCLEAR = 0.05  # of a time: what is less than this beside it cannot be told from noise
HIDDEN = 0.1  # by how much fetching must be the longer stage to be told from preparing
WIDTH = 110  # characters of a line of text
CACHES = (0.25, 0.5, 0.75)
FACTORS = (2, 4)


@dataclass(frozen=True)
class Report:
    """Where a loop waits, from runs of the same batches: synthetic, cached and cold, and the loader alone.

    With T1, T3 and T2 for the seconds of a batch in `synthetic`, `cached` and `cold`:

        prep stall = T3 - T1,  fetch stall = T2 - T3,  as shares of T2

    and what each stage takes by itself: compute = T1, prep = the loader alone from memory, fetch = what the loader
    alone takes longer from the disk (in a staged pipeline: all that it then takes, if that is longer).

    samples: of a batch, on average. workers: processes or threads that prepare. files, bytes: what was dropped
    from the page cache before the cold runs. notes: sentences that a reader must know.

    Reference: DS-Analyzer, in arXiv:2007.06775. It takes samples / T3 for the rate of preparation, which is only a
    lower bound where the step takes longer than the loader; the runs of the loader alone replace it.
    """

    synthetic: Run
    cached: Run
    cold: Run | None
    loader_cached: Run
    loader_cold: Run | None
    samples: float
    pipeline: Pipeline
    workers: int = 1
    files: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def compute(self) -> float:
        """Seconds of a batch that the step takes by itself."""
        return self.synthetic.each

    @property
    def prep(self) -> float:
        """Seconds of a batch that the loader takes by itself, from memory."""
        return self.loader_cached.each

    @property
    def fetch(self) -> float | None:
        """Seconds of a batch that reading from the disk takes; None if not measured, or hidden behind prep."""
        if self.loader_cold is None:
            return None
        cold, cached = self.loader_cold.each, self.loader_cached.each
        if self.pipeline == "staged":
            return cold if cold > cached * (1 + HIDDEN) else None
        return max(0.0, cold - cached)

    @property
    def total(self) -> float:
        """Seconds of a batch in the whole loop: cold, or cached where there was no cold run."""
        return (self.cold or self.cached).each

    @property
    def prep_stall(self) -> float:
        """The share of the whole that the step waits for preparation."""
        return _share(self.cached.each - self.synthetic.each, self.total)

    @property
    def fetch_stall(self) -> float | None:
        """The share of the whole that the step waits for the disk; None where that was not measured."""
        return None if self.cold is None else _share(self.cold.each - self.cached.each, self.total)

    @property
    def rates(self) -> Rates:
        """The rates of the stages, for questions of the kind what if."""
        return Rates(
            compute=_rate(self.samples, self.compute),
            prep=_rate(self.samples, self.prep),
            fetch=_rate(self.samples, self.fetch or 0.0),
            cores=self.workers,
            pipeline=self.pipeline,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything that was measured and that follows from it, for JSON."""
        return {
            **asdict(self),
            "notes": list(self.notes),
            "compute_seconds": self.compute,
            "prep_seconds": self.prep,
            "fetch_seconds": self.fetch,
            "prep_stall": self.prep_stall,
            "fetch_stall": self.fetch_stall,
            "rates": self.rates.as_dict(),
        }

    def json(self) -> str:
        """Return `as_dict()` as text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def __str__(self) -> str:
        """Return a table, with what a larger cache, more cores and a faster disk would give."""
        return "\n".join(
            [*self._stages(), "", *self._whole(), *self._needed(), "", *self._what_if(), *self._notes()]
        )

    def _stages(self) -> list[str]:
        computes = 1 - self.prep_stall - (self.fetch_stall or 0.0)
        shares = {"compute": computes, "prep": self.prep_stall, "fetch": self.fetch_stall}
        lines = [f"{'':10}{'ms a batch':>12}{'samples/s':>12}{'of the loop':>13}"]
        for name, seconds in {"compute": self.compute, "prep": self.prep, "fetch": self.fetch}.items():
            share = shares[name]
            rate = "" if not seconds else f"{self.samples / seconds:.4g}"
            time = "unknown" if seconds is None else f"{1000 * seconds:.4g}"
            lines.append(f"{name:10}{time:>12}{rate:>12}{'' if share is None else units.share(share):>13}")
        return lines

    def _whole(self) -> list[str]:
        cold = "" if self.cold is None else f", {1000 * self.cold.each:.4g} ms with the data on disk"
        first = (
            f"A batch ({self.samples:.4g} samples) takes {1000 * self.synthetic.each:.4g} ms if it is at hand, "
            f"{1000 * self.cached.each:.4g} ms with the data in memory{cold}."
        )
        ways = {
            "serial": "Nothing is prepared while the step computes",
            "prefetch": "Batches are prepared while the step computes",
            "staged": "Fetching, preparing and computing go on side by side",
        }
        limit = self.rates.limit(cache=float(self.fetch is None))
        return [first, f"{ways[self.pipeline]}; the longest part is {limit}."]

    def _needed(self) -> list[str]:
        """Return what would hide each stage of the loader behind the step."""
        cores = self.rates.cores_needed()
        told = [] if cores is None else [f"Preparing is hidden by {units.times(cores, 'core')}."]
        cache, disk = self.rates.cache_needed(), self.rates.disk_needed()
        if self.fetch and cache and disk is not None:
            told.append(
                f"Fetching is hidden by a cache of {cache:.0%} of the data, or a disk {disk:.2g} times as fast."
            )
        return told

    def _what_if(self) -> list[str]:
        rates, known = self.rates, bool(self.fetch)
        cache = 0.0 if known else 1.0
        now = rates.throughput(cache=cache)
        rows = {f"{c:.0%} of the data in a cache": rates.throughput(cache=c) for c in CACHES if known}
        if known:
            rows["all data in a cache"] = rates.throughput(cache=1.0)
            rows |= {f"a disk {f} times as fast": rates.throughput(disk=f) for f in FACTORS}
        rows |= {
            units.times(f * rates.cores, "core") + " to prepare": rates.throughput(
                cache=cache, cores=f * rates.cores
            )
            for f in FACTORS
        }
        rows["a device twice as fast"] = rates.throughput(cache=cache, device=2.0)
        lines = [f"{'predicted':32}{'samples/s':>12}{'times':>8}", f"{'as it is':32}{now:>12.4g}{1:>8.2f}"]
        return lines + [f"{what:32}{rate:>12.4g}{rate / now:>8.2f}" for what, rate in rows.items() if rate != inf]

    def _notes(self) -> list[str]:
        notes = list(self.notes)
        if self.cold is not None and self.cold.each < self.cached.each * (1 - UNCLEAR):
            notes.append(
                "The loop was faster with the data on disk than with it in memory, which cannot be: something "
                "else ran on this machine, or the runs are too short."
            )
        return ["", *(fill(note, WIDTH) for note in notes)] if notes else []


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


def _rate(samples: float, seconds: float) -> float:
    return samples / seconds if seconds > 0 and samples > 0 else inf


def found_pipeline(compute: float, loader: float, whole: float, workers: int | None) -> Pipeline:
    """Return whether a loader works ahead of the step: if it has workers, or by what the whole took.

    A loop without overlap takes compute + loader; one with it max(compute, loader): the nearer one is it.
    """
    long, short = max(compute, loader), min(compute, loader)
    if workers:
        return "prefetch"
    if short < 2 * UNCLEAR * long:
        return "prefetch" if workers is None else "serial"
    return "serial" if whole > long + short / 2 else "prefetch"
