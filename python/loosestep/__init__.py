"""Parallel SGD that need not march in lockstep."""

from loosestep import ops
from loosestep.driver import run
from loosestep.optimizers import SGD, Adam, Momentum, Nesterov
from loosestep.result import Interrupted, Progress, Result
from loosestep.scoping import Scoping
from loosestep.stragglers import Constant, LogNormal, Pauses, Slow
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.bmuf import BMUF
from loosestep.strategies.cdsgd import CDSGD
from loosestep.strategies.cocod_sgd import CoCoDSGD
from loosestep.strategies.dasgd import DaSGD
from loosestep.strategies.decoupled_diloco import DecoupledDiLoCo
from loosestep.strategies.diloco import DiLoCo
from loosestep.strategies.downpour import Downpour
from loosestep.strategies.easgd import EASGD
from loosestep.strategies.entropy_sgd import EntropySGD
from loosestep.strategies.fed_avg import FedAvg
from loosestep.strategies.hierarchical_sgd import HierarchicalLocalSGD
from loosestep.strategies.hogwild import Hogwild
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.strategies.one_shot import OneShotAveraging
from loosestep.strategies.overlap_local_sgd import OverlapLocalSGD
from loosestep.strategies.parle import Parle
from loosestep.strategies.post_local_sgd import PostLocalSGD
from loosestep.strategies.slowmo import SlowMo
from loosestep.strategies.streaming_diloco import StreamingDiLoCo
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
    "BMUF",
    "CDSGD",
    "EASGD",
    "MPI",
    "SGD",
    "Adam",
    "AllReduceSGD",
    "CoCoDSGD",
    "Complete",
    "Constant",
    "DaSGD",
    "DecoupledDiLoCo",
    "Delayed",
    "DiLoCo",
    "Downpour",
    "EntropySGD",
    "Failing",
    "FedAvg",
    "HierarchicalLocalSGD",
    "Hogwild",
    "Interrupted",
    "LocalSGD",
    "LogNormal",
    "Metered",
    "Momentum",
    "Nesterov",
    "OneShotAveraging",
    "OverlapLocalSGD",
    "Parle",
    "Pauses",
    "PostLocalSGD",
    "Progress",
    "Result",
    "Ring",
    "Scoping",
    "Serial",
    "Simulated",
    "Slow",
    "SlowMo",
    "State",
    "Strategy",
    "StreamingDiLoCo",
    "SyncEASGD",
    "Threads",
    "Topology",
    "Torus",
    "ops",
    "run",
]
