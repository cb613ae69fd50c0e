"""Workers in processes, over MPI."""

from loosestep.transports.mpi.transport import MPI

__all__ = ["MPI"]
