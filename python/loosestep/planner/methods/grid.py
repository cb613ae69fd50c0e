"""What a plan chooses among: strategies, with every period, codec and bucket size that they allow."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

from loosestep import codecs, strategies
from loosestep.codecs.base import Codec
from loosestep.foundation.value import instance
from loosestep.strategies.base import Strategy

if TYPE_CHECKING:
    from types import ModuleType

    from loosestep.foundation.value import Value

T = TypeVar("T", bound="Value")

PERIODS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Local steps between two communications that are tried of a strategy with a `period`."""
BUCKETS = tuple(size << 20 for size in (1, 4, 25, 100))
"""Sizes that are tried of a strategy that sends the gradient in buckets of at most `bucket_bytes`."""
CUTS = 128
"""Buckets of a model, at most: of more each sends little, and all together cost latencies."""
SIZES = ("bucket_bytes", "first_bytes")
"""Fields that change when something is sent, and no number of the run."""


@dataclass(frozen=True)
class Grid:
    """What is tried of each strategy: of its `period`, its `codec` and its `bucket_bytes`, where it has them.

    A period is always tried, a codec and a size where the strategy has its default.
    """

    periods: tuple[int, ...]
    codecs: tuple[Codec, ...]
    buckets: tuple[int, ...]

    def variants(self, strategy: Strategy, nbytes: int) -> list[Strategy]:
        """Return a strategy in all ways that it allows, for a model of so many bytes, shorter periods first.

        Of sizes that hold the whole model one is tried, the strategy's own or the smallest; and none that would
        cut the model into more than CUTS.
        """
        own = getattr(strategy, "bucket_bytes", 0)
        buckets = [size for size in self.buckets if size * CUTS >= nbytes] or [max(self.buckets, default=own)]
        sizes = {min(size, nbytes): size for size in sorted(buckets, key=lambda size: (size == own, -size))}
        choices: dict[str, list[Any]] = {
            "bucket_bytes": sorted(sizes.values()),
            "codec": [None, *self.codecs],
            "period": sorted(set(self.periods)),
        }
        found = [strategy]
        for name, values in choices.items():
            if varies(strategy, name):
                found = [made for value in values for each in found for made in with_value(each, name, value)]
        if not found:
            raise ValueError(f"{strategy!r} allows none of the periods {', '.join(map(str, self.periods))}")
        return found


def varies(strategy: Strategy, name: str) -> bool:
    """Return whether values of a field are tried: those of a period, or others than the default that it has."""
    field = next((field for field in fields(strategy) if field.name == name), None)  # type: ignore[arg-type]
    if field is None:
        return False
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return name == "period" or getattr(strategy, name) == default


def with_value(strategy: Strategy, name: str, value: Any) -> list[Strategy]:
    """Return the strategy with a value, or none where it refuses it, as a period below that of its fragments."""
    try:
        return [replace(strategy, **{name: value})]  # type: ignore[type-var]
    except (TypeError, ValueError):
        return []


def method(strategy: Strategy) -> object:
    """Return what strategies that differ in their period and in sizes of buckets alone have in common."""
    names = [field.name for field in fields(strategy) if field.name not in ("period", *SIZES)]  # type: ignore[arg-type]
    return type(strategy), *(getattr(strategy, name) for name in names)


def period(strategy: Strategy) -> int:
    """Return the period of a strategy, 1 where it has none."""
    return int(getattr(strategy, "period", 1))


def label(strategy: Strategy) -> str:
    """Return a strategy as a user writes it, with its period.

    >>> from loosestep import LocalSGD
    >>> label(LocalSGD())
    'LocalSGD(period=8)'
    """
    text = repr(strategy)
    if "period=" in text or not varies(strategy, "period"):
        return text
    name, _, rest = text.partition("(")
    return f"{name}(period={period(strategy)}{'' if rest == ')' else ', '}{rest}"


def cycle(strategy: Strategy) -> int:
    """Return the local steps after which what a worker asks for repeats."""
    levels = getattr(strategy, "levels", None)
    return levels[-1][0] if levels else period(strategy)


def all_strategies() -> tuple[Strategy, ...]:
    """Return one of each strategy, in order of name."""
    return instances(strategies, Strategy)


def all_codecs() -> tuple[Codec, ...]:
    """Return one of each codec, in order of name."""
    return instances(codecs, Codec)


@cache
def instances(package: ModuleType, kind: type[T]) -> tuple[T, ...]:
    """Return one of each class of a kind that the files of a package define, with its defaults or its example."""
    found = {
        value.__name__: value
        for file in iter_modules(package.__path__)
        for value in vars(import_module(f"{package.__name__}.{file.name}")).values()
        if isinstance(value, type) and issubclass(value, kind) and is_dataclass(value)
    }
    return tuple(instance(found[name]) for name in sorted(found))
