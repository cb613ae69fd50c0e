"""Workers in processes. MPI (mpi4py) carries bytes; matching, sums, centers and liveness are loosestep's."""

from loosestep.transports.mpi.transport import MPI

__all__ = ["MPI"]
