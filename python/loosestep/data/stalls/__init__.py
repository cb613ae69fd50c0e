"""Where a training loop waits for its data: measured by runs with data at hand, in memory, and on disk."""

from loosestep.data.stalls.rates import Rates
from loosestep.data.stalls.report import Report
from loosestep.data.stalls.run import Run
from loosestep.data.stalls.watch import Watch, measure, watch

__all__ = ["Rates", "Report", "Run", "Watch", "measure", "watch"]
