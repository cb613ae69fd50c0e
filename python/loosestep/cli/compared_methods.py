"""The contenders of a comparison: strategies with their optimizers, and which are shown by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.sgd import SGD, Nesterov
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.base import Strategy
from loosestep.strategies.cdsgd import CDSGD
from loosestep.strategies.downpour import Downpour
from loosestep.strategies.easgd import EASGD
from loosestep.strategies.hogwild import Hogwild
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.strategies.slowmo import SlowMo
from loosestep.strategies.streaming_diloco import StreamingDiLoCo
from loosestep.topologies.ring import Ring
from loosestep.transports.simulated import Simulated
from loosestep.transports.simulated.stragglers import LogNormal, SlowWorker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FACTORS = (1 / 3, 1.0, 3.0)  # of the learning rate, in the order in which they are tried


@dataclass(frozen=True)
class Contender:
    """A strategy, and its optimizer where it has one of its own.

    tried: the optimizers among which `optimizer` was chosen; why: what the reader should know of its optimizer.
    """

    strategy: Strategy
    optimizer: Optimizer | None = None
    tried: tuple[Optimizer, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        checks.instance("strategy", self.strategy, Strategy)

    def __str__(self) -> str:
        """Return a text such as 'EASGD() with SGD(rate=0.3)'; the strategy alone if the optimizer is common."""
        return repr(self.strategy) + ("" if self.optimizer is None else f" with {self.optimizer!r}")


STORY = (
    Contender(AllReduceSGD()),
    Contender(LocalSGD(period=8)),
    Contender(EASGD(period=10), SGD(0.3), why="the rate of plain SGD that goes as far"),
    Contender(EASGD(period=10), Nesterov(0.02), why="elastic averaging with momentum, EAMSGD"),
    Contender(Downpour(period=1)),
    Contender(
        Downpour(period=16), Nesterov(0.003), why="16 steps of each worker add up: a larger rate does not learn"
    ),
    Contender(CDSGD(topology=Ring())),
    Contender(SlowMo(period=12)),
    Contender(StreamingDiLoCo()),
    Contender(Hogwild()),
)
"""What `loosestep compare` shows; rates were chosen on seeds that it does not show."""

FAMILIAR = frozenset(type(contender.strategy) for contender in STORY)


def slow_link(workers: int) -> Simulated:
    """Return the default simulator: 100 Mbit/s between workers of uneven speed, the last of which is slow.

    >>> slow_link(4).bandwidth * 8
    100000000.0
    """
    uneven = SlowWorker(rank=workers - 1, factor=2.0, base=LogNormal(0.3))
    return Simulated(workers, latency=1e-4, bandwidth=12.5e6, stragglers=uneven)


def contender(strategy: Strategy) -> Contender:
    """Return a strategy with the optimizer of all, or with that for which it is made."""
    why = "the optimizer for which it is made" if strategy.made_for else ""
    return Contender(strategy, strategy.made_for, why=why)


def with_the_rest(strategies: Iterable[Strategy]) -> list[Contender]:
    """Return the default contenders, and those of the strategies whose class is not among them."""
    return [*STORY, *(contender(strategy) for strategy in strategies if type(strategy) not in FAMILIAR)]


def with_one_optimizer(contenders: Iterable[Contender]) -> list[Contender]:
    """Return the contenders without optimizers of their own, each strategy once."""
    return [Contender(strategy) for strategy in dict.fromkeys(each.strategy for each in contenders)]


def at_rates(optimizer: Optimizer) -> tuple[Optimizer, ...]:
    """Return the optimizer at a third of its rate, at its rate and at three times that.

    >>> at_rates(SGD(0.1))
    (SGD(rate=0.0333), SGD(), SGD(rate=0.3))
    """
    return tuple(_scaled(optimizer, by) for by in FACTORS)


def _scaled(optimizer: Optimizer, by: float) -> Optimizer:
    if callable(optimizer.rate):
        return optimizer.scaled(by)
    rounded = float(f"{optimizer.rate * by:.3g}")  # so that a table can print the rate that was used
    return replace(optimizer, rate=rounded)  # type: ignore[type-var]


def rate_column(contenders: Sequence[Contender], common: Optimizer) -> list[str]:
    """Return the texts of the optimizers in a table, where they differ: '0.03', 'SGD 0.3'.

    A + says that the chosen rate is the highest that was tried, a - that it is the lowest.
    """
    used = [contender.optimizer or common for contender in contenders]
    if all(optimizer == common for optimizer in used) and not any(each.tried for each in contenders):
        return []
    return [_short(each, optimizer, common) for each, optimizer in zip(contenders, used, strict=True)]


def _short(contender: Contender, optimizer: Optimizer, common: Optimizer) -> str:
    rate = repr(optimizer.rate) if callable(optimizer.rate) else f"{optimizer.rate:g}"
    alike = type(optimizer) is type(common) and replace(optimizer, rate=common.rate) == common  # type: ignore[type-var]
    edge = "+" if optimizer in contender.tried[-1:] else "-" if optimizer in contender.tried[:1] else ""
    return ("" if alike else f"{type(optimizer).__name__} ") + rate + edge
