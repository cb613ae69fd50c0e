"""The simulator: workers, stragglers and a network on a virtual clock."""

from loosestep.transports.simulated.session import Simulated

__all__ = ["Simulated"]
