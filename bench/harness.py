"""How every benchmark here measures.

A benchmark is a module in this folder with a docstring and

    def rows(options: Options) -> Iterator[Row]

which checks a result, then times it beside its rivals and its limit:

    def rows(options):
        contestants = {"loosestep": ours, "numpy": theirs, "limit": stream}      # functions without arguments
        assert_equal(ours(), theirs())
        measured = measure(contestants, options)
        amount = 16 * n / 1e9
        yield from measured.rows("ops", "elastic", threads=2, amount=amount, unit="GB/s", limits=["limit"])

`measure` runs the contestants alternately, at least 15 times each, so that a change of the machine hits all
of them; a ratio of medians is fair, a single time is not. It waits a while for the machine to be quiet,
reads what others did to the processors in each round, replaces disturbed rounds (at most `options.attempts`
times as many as are wanted), keeps the quietest, and marks the result where even these were disturbed.
`python -m bench NAME` finds the module, prints the rows and writes them as JSON.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loosestep import _core

Contestant = Callable[[], object]


@dataclass(frozen=True)
class Sample:
    seconds: float
    """Of one call, the mean of a sample."""
    processor: float = 0.0
    """Seconds that other processes of ours computed for the whole sample: they are not strangers."""


class Elsewhere(ABC):
    """A contestant that runs and is timed in other processes."""

    @abstractmethod
    def sample(self, repeats: int) -> Sample: ...


class Processor(Elsewhere):
    """Seconds of all threads together: what others do to the machine hardly shows in them, a cache line that
    travels between our own threads does."""

    def __init__(self, run: Contestant) -> None:
        self.run = run

    def sample(self, repeats: int) -> Sample:
        start = time.process_time()
        for _ in range(repeats):
            self.run()
        return Sample((time.process_time() - start) / repeats)


QUIET = 0.12
"""Processor time of others, as a share of one core, up to which a measurement counts as undisturbed."""

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: how finely the system counts them."""


@dataclass(frozen=True)
class Options:
    smoke: bool = False
    rounds: int = 15
    attempts: int = 4
    """At most so many times `rounds`, to replace those that others disturbed."""
    patience: float = 10.0
    """Seconds to wait, at first, for others to leave the processors."""
    only: str = ""
    """Run only the cases whose name holds this."""
    mpich: str = ""
    """Another interpreter, whose MPI is MPICH: two MPIs cannot live in one environment."""


@dataclass(frozen=True)
class Seconds:
    min: float
    median: float
    max: float


@dataclass(frozen=True)
class Noise:
    """What the machine did meanwhile: shares of one core, and the seconds of a cache line between cores."""

    foreign: float
    steal: float
    ping_pong: float = math.nan

    @property
    def dirty(self) -> bool:
        return self.foreign > QUIET or self.steal > QUIET

    def __str__(self) -> str:
        mark = ", DISTURBED" if self.dirty else ""
        text = f"others {self.foreign:.0%} of a core, steal {self.steal:.0%}"
        return f"{text}, ping-pong {self.ping_pong * 1e9:.0f} ns{mark}"


@dataclass(frozen=True)
class Row:
    bench: str
    case: str
    library: str
    threads: int
    seconds: Seconds
    value: float
    unit: str
    limit_share: float | None
    checked: bool
    noise: Noise
    n: int | None = None
    bytes: int | None = None

    def as_json(self) -> dict[str, object]:
        fields = asdict(self)
        fields["noise"]["dirty"] = self.noise.dirty
        if not math.isfinite(self.noise.ping_pong):
            fields["noise"]["ping_pong"] = None  # JSON has no infinity
        return {key: value for key, value in fields.items() if key not in ("n", "bytes") or value is not None}


@dataclass(frozen=True)
class Measured:
    seconds: Mapping[str, Seconds]
    noise: Noise

    def ratio(self, one: str, other: str) -> float:
        """How many times faster `one` is."""
        return self.seconds[other].median / self.seconds[one].median

    def rows(
        self,
        bench: str,
        case: str,
        *,
        threads: int,
        amount: float | Mapping[str, float],
        unit: str,
        n: int | None = None,
        bytes: int | None = None,  # noqa: A002  (the name that the rows carry)
        limits: Sequence[str] = (),
        checked: bool = True,
    ) -> Iterator[Row]:
        """A row for each contestant: `amount` of work (each its own, where they differ) a second.

        The limit is the best of the contestants named by `limits`.
        """
        amounts = amount if isinstance(amount, Mapping) else dict.fromkeys(self.seconds, amount)
        rates = {name: amounts[name] / s.median for name, s in self.seconds.items()}
        best = max((rates[name] for name in limits), default=None)
        for name, seconds in self.seconds.items():
            share = rates[name] / best if best else None
            yield Row(
                bench=bench,
                case=case,
                library=name,
                threads=threads,
                seconds=seconds,
                value=rates[name],
                unit=unit,
                limit_share=share,
                checked=checked,
                noise=self.noise,
                n=n,
                bytes=bytes,
            )


def measure(
    contestants: Mapping[str, Contestant | Elsewhere], options: Options, at_least: float = 2e-3
) -> Measured:
    """Times the contestants alternately; short ones are repeated until a sample takes `at_least` seconds."""
    repeats = {name: 1 if options.smoke else _repeats(run, at_least) for name, run in contestants.items()}
    wanted = 2 if options.smoke else max(15, options.rounds)
    rounds: list[_Round] = []
    _await_quiet(0 if options.smoke else options.patience)
    for turn in range(wanted if options.smoke else wanted * options.attempts):
        rounds.append(_round(contestants, repeats, turn))
        if sum(not each.noise.dirty for each in rounds) >= wanted:
            break
    return _summary(list(contestants), sorted(rounds, key=lambda each: each.foreign / each.wall)[:wanted])


@dataclass(frozen=True)
class _Round:
    """Each contestant once: its seconds, and the processor seconds of others meanwhile."""

    seconds: Mapping[str, float]
    wall: float
    foreign: float
    steal: float

    @property
    def noise(self) -> Noise:
        return Noise(max(0.0, self.foreign) / self.wall, self.steal / self.wall)


def _round(contestants: Mapping[str, Contestant | Elsewhere], repeats: Mapping[str, int], turn: int) -> _Round:
    names = list(contestants)
    first = turn % len(names)
    samples = {}
    before = _Busy.now()
    gc.disable()
    for name in names[first:] + names[:first]:
        samples[name] = _sample(contestants[name], repeats[name])
    gc.enable()
    round_ = before.until_now({name: sample.seconds for name, sample in samples.items()})
    return replace(round_, foreign=round_.foreign - sum(sample.processor for sample in samples.values()))


def _summary(names: Sequence[str], rounds: Sequence[_Round]) -> Measured:
    wall = sum(each.wall for each in rounds)
    foreign, steal = (sum(getattr(each, what) for each in rounds) for what in ("foreign", "steal"))
    noise = Noise(max(0.0, foreign) / wall, steal / wall, _core.streams.ping_pong())
    times = {name: [each.seconds[name] for each in rounds] for name in names}
    return Measured({name: Seconds(min(t), statistics.median(t), max(t)) for name, t in times.items()}, noise)


def _await_quiet(patience: float) -> None:
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        before = _Busy.now()
        time.sleep(0.25)
        if not before.until_now({}).noise.dirty:
            return


def _sample(run: Contestant | Elsewhere, repeats: int) -> Sample:
    if isinstance(run, Elsewhere):
        return run.sample(repeats)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return Sample((time.perf_counter() - start) / repeats)


def _repeats(run: Contestant | Elsewhere, at_least: float) -> int:
    _sample(run, 1)
    return max(1, round(at_least / max(_sample(run, 3).seconds, 1e-9)))


@dataclass(frozen=True)
class _Busy:
    """Seconds so far: the clock's, all processors', the hypervisor's, our own."""

    clock: float
    busy: float
    steal: float
    own: float

    @classmethod
    def now(cls) -> _Busy:
        own = resource.getrusage(resource.RUSAGE_SELF)
        busy, steal = _processors()
        return cls(time.perf_counter(), busy, steal, own.ru_utime + own.ru_stime)

    def until_now(self, seconds: Mapping[str, float]) -> _Round:
        end = _Busy.now()
        foreign = (end.busy - self.busy) - (end.own - self.own)
        return _Round(seconds, end.clock - self.clock, foreign, end.steal - self.steal)


def _processors() -> tuple[float, float]:
    """Busy and stolen seconds of all processors; zeros where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0, 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq) * TICK, steal * TICK


def table(rows: Sequence[Row]) -> Iterator[str]:
    """One line a row, with a line above each case."""
    case = None
    for row in rows:
        if row.case != case:
            case = row.case
            yield f"\n{row.bench} {case}, {row.threads} thread(s) [{row.noise}]"
        s = row.seconds
        share = "" if row.limit_share is None else f"{row.limit_share:6.2f} of the limit"
        times = " ".join(f"{_time(t):>8}" for t in (s.min, s.median, s.max))
        yield f"  {row.library:28} {times} {row.value:10.4g} {row.unit} {share}".rstrip()


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
