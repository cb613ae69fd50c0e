"""Parallel SGD that need not march in lockstep."""

from loosestep import data, least_squares, ops
from loosestep.driver import run
from loosestep.optimizers import LAMB, LARS, SGD, Adam, Momentum, Nesterov, RMSpropWarmup
from loosestep.rates import Cosine, Drops, Polynomial, Scaled, Warmup
from loosestep.result import Interrupted, Progress, Result
from loosestep.stragglers import Constant, LogNormal, Pauses, Slow
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.averaged import Averaged
from loosestep.strategies.cdsgd import CDSGD
from loosestep.strategies.dbs import DBS
from loosestep.strategies.downpour import Downpour
from loosestep.strategies.easgd import EASGD
from loosestep.strategies.hogwild import Hogwild
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.strategies.schedule import Schedule
from loosestep.strategies.sync_easgd import SyncEASGD
from loosestep.strategy import State, Strategy
from loosestep.topologies.complete import Complete
from loosestep.topologies.ring import Ring
from loosestep.topologies.torus import Torus
from loosestep.topology import Topology
from loosestep.transports.delayed import Delayed
from loosestep.transports.failing import Failing
from loosestep.transports.metered import Metered
from loosestep.transports.mpi import MPI
from loosestep.transports.serial import Serial
from loosestep.transports.simulated import Simulated
from loosestep.transports.threads import Threads

__version__ = "0.1.0"

__all__ = [
    "CDSGD",
    "DBS",
    "EASGD",
    "LAMB",
    "LARS",
    "MPI",
    "SGD",
    "Adam",
    "AllReduceSGD",
    "Averaged",
    "Complete",
    "Constant",
    "Cosine",
    "Delayed",
    "Downpour",
    "Drops",
    "Failing",
    "Hogwild",
    "Interrupted",
    "LocalSGD",
    "LogNormal",
    "Metered",
    "Momentum",
    "Nesterov",
    "Pauses",
    "Polynomial",
    "Progress",
    "RMSpropWarmup",
    "Result",
    "Ring",
    "Scaled",
    "Schedule",
    "Serial",
    "Simulated",
    "Slow",
    "State",
    "Strategy",
    "SyncEASGD",
    "Threads",
    "Topology",
    "Torus",
    "Warmup",
    "data",
    "least_squares",
    "ops",
    "run",
]
