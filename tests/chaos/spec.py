"""What a trial is, as one line of text that can be drawn from a seed and read again."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random

from tests.chaos.kind import Kind, found

STEPS = 120
SORTS = {
    "synchronous": ("LocalSGD", "AllReduceSGD", "CDSGD", "DiLoCo", "SyncEASGD"),
    "centers": ("EASGD", "Downpour", "DecoupledDiLoCo", "SSP"),
    "shared": ("Hogwild",),
    "started": ("CoCoDSGD", "DaSGD", "StreamingDiLoCo"),
}
"""Strategies of each sort: how their workers meet."""
SAME_BITS = SORTS["synchronous"] + SORTS["started"]
"""Of which a run that is broken and resumed gives the bits of one that is not."""


@dataclass(frozen=True)
class Settings:
    """What a kind may want of the job to be otherwise."""

    every: int = 10  # steps between two checkpoints
    heartbeat_timeout: float = 6.0
    deadline: float = 12.0
    width: int = 256  # parameters
    catches: bool = False  # it goes on where a checkpoint cannot be written
    loss: bool = True  # the gradient comes with a loss
    steps: int = STEPS


@dataclass(frozen=True)
class Spec:
    """One trial: the job, the fault, and when. Its text is words `name=value`."""

    kind: str
    strategy: str = "LocalSGD"
    loop: str = "library"
    ranks: int = 3
    hosts: tuple[int, ...] = ()  # none: one host
    rank: int = 1  # that it happens to
    step: int = 40  # at which
    number: int = 0  # what else the kind draws is drawn from this

    def __str__(self) -> str:
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        texts = ((name, "+".join(map(str, value)) if name == "hosts" else str(value)) for name, value in values)
        return " ".join(f"{name}={text}" for name, text in texts if text)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """The trial that a text tells."""
        given = dict(word.split("=", 1) for word in text.split())
        wrong = given.keys() - {item.name for item in fields(cls)}
        if wrong or "kind" not in given:
            raise ValueError(f"a trial is words such as kind=raises strategy=LocalSGD, got {text!r}")
        hosts = tuple(int(each) for each in given.pop("hosts", "").split("+") if each)
        numbers = {name: int(given.pop(name)) for name in ("ranks", "rank", "step", "number") if name in given}
        return cls(**given, hosts=hosts, **numbers)  # type: ignore[arg-type]

    def settings(self) -> Settings:
        """Of the job."""
        kinds = found()
        if self.kind not in kinds:
            raise ValueError(f"there is no kind {self.kind!r}; there are {', '.join(sorted(kinds))}")
        return Settings(**kinds[self.kind].settings or {})

    def random(self) -> Random:
        """What a kind draws beside."""
        return Random(str(self))

    @property
    def same_bits(self) -> bool:
        """Whether it must come to the bits of an unbroken run."""
        return self.strategy in SAME_BITS


def draw(seed: int, number: int, names: list[str]) -> Spec:
    """A trial of a seed: every kind comes once before one comes again."""
    deck, kinds = sorted(names), found()
    Random(f"deck {seed} {number // len(deck)}").shuffle(deck)
    return draw_job(kinds[deck[number % len(deck)]], Random(f"trial {seed} {number}"))


def draw_job(kind: Kind, random: Random) -> Spec:
    """A job to which that kind may happen."""
    sort = random.choice(sorted(SORTS))
    strategy = random.choice(kind.strategies or SORTS[sort])
    loop = random.choice(kind.loops) if random.random() < 0.5 else kind.loops[0]
    ranks = random.choice((2, 2, 3, 4)) if loop != "torch" else 2
    spec = Spec(kind.name, strategy, loop, ranks, number=random.randrange(1000))
    spec = replace(spec, rank=random.randrange(ranks), step=random.randrange(3, STEPS - 15))
    several = random.random() < 0.3 if kind.hosts is None else kind.hosts
    if several and strategy in SORTS["shared"]:  # they live on one host
        spec, several = replace(spec, strategy="LocalSGD"), bool(kind.hosts)
    if several and loop in ("library", "torch"):
        first = random.randrange(1, ranks)
        spec = replace(spec, hosts=(first, ranks - first))
    return spec
