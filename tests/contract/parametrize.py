"""Every strategy and every transport of many workers, as contract tests use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import cases, discover, is_many
from tests.contract.problem import Quadratic, start

import loosestep as ls
from loosestep import strategies, transports
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

ALL = cases(strategies, Strategy)
EXAMPLES = [cls.example() for cls in discover(strategies, Strategy)]
SYNCHRONOUS = [case for case in ALL if case.values[0].synchronous]
IDENTITIES = [case for case in ALL if case.values[0].identity_at_one]
MANY = [cls for cls in discover(transports, Transport) if is_many(cls)]
VIRTUAL = [cls for cls in MANY if cls.virtual]
REAL = [cls for cls in MANY if not cls.virtual]

EPOCH = 4  # steps, so that schedules switch in the middle of things

every_strategy = pytest.mark.parametrize("strategy", ALL)
every_synchronous = pytest.mark.parametrize("strategy", SYNCHRONOUS)
every_virtual = pytest.mark.parametrize("virtual", VIRTUAL)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def near(kind: type[Transport], n: int) -> Transport:
    """So many workers between whom the fewest bytes are fastest, which is what threads and costs count."""
    return ls.Simulated(n, latency=0.0) if kind is ls.Simulated else kind(n)  # type: ignore[call-arg]


def go(strategy: Strategy, data: Quadratic, on: Transport, dtype: type = np.float64, **options: Any) -> ls.Result:
    options.setdefault("optimizer", ls.SGD(0.1))
    options.setdefault("steps_per_epoch", EPOCH)
    batches = data.together if ls.Need.GLOBAL_BATCHES in strategy.needs else data.batches
    return ls.run(strategy, data.gradient, start(dtype), batches, on=on, **options)
