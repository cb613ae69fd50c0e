"""Buffers that a strategy lets all workers of a host hold in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loosestep.foundation import buffers

if TYPE_CHECKING:
    from loosestep.optimizers import Optimizer
    from loosestep.requests import Buffer
    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Session


class Common(NamedTuple):
    """Buffers of all workers; None: each has its own. `updates` counts updates of shared moments, one float64."""

    params: Buffer | None = None
    moments: tuple[Buffer, ...] | None = None
    updates: Buffer | None = None

    @classmethod
    def of(cls, strategy: Strategy, session: Session, optimizer: Optimizer, x0: Buffer) -> Common:
        """Make the shared buffers, in the same order on every process."""
        params = session.in_common("params", x0) if "params" in strategy.shared_buffers else None
        if "moments" not in strategy.shared_buffers:
            return cls(params)
        moments = [session.in_common(f"moment {k}", each) for k, each in enumerate(optimizer.init(x0))]
        return cls(params, tuple(moments), session.in_common("updates", buffers.zeros(1, np.float64)))
