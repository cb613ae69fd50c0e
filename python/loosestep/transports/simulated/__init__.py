"""The simulator: workers, stragglers and a network on a virtual clock."""

from loosestep.transports.simulated.transport import Simulated

__all__ = ["Simulated"]
