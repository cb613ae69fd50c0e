"""Parallel SGD that need not march in lockstep."""

from loosestep import data, ops
from loosestep.cli.launch.functions import launch
from loosestep.codecs.base import Codec
from loosestep.codecs.e3m0 import E3M0
from loosestep.foundation.core_age import warn_if_old as _warn_if_core_is_old
from loosestep.optimizers import least_squares, schedules
from loosestep.optimizers.adam import Adam, AdamW
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.layerwise import LAMB, LARS
from loosestep.optimizers.rmsprop_warmup import RMSpropWarmup
from loosestep.optimizers.sgd import SGD, Momentum, Nesterov
from loosestep.planner.prediction import Prediction, predict
from loosestep.planner.probing.measure import probe
from loosestep.runtime.result import Interrupted, Progress, Result
from loosestep.runtime.run import run
from loosestep.runtime.split_model import SplitResult, run_split
from loosestep.strategies.adaptive_local_sgd import AdaptiveLocalSGD
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.async_local_sgd import AsyncLocalSGD
from loosestep.strategies.averaged import Averaged
from loosestep.strategies.averaged_downpour import AveragedDownpour
from loosestep.strategies.base import Cost, Need, State, Strategy
from loosestep.strategies.bmuf import BMUF
from loosestep.strategies.cdsgd import CDSGD
from loosestep.strategies.cocod_sgd import CoCoDSGD
from loosestep.strategies.dasgd import DaSGD
from loosestep.strategies.dbs import DBS
from loosestep.strategies.dcasgd import DCASGD
from loosestep.strategies.decoupled_diloco import DecoupledDiLoCo
from loosestep.strategies.diloco import DiLoCo
from loosestep.strategies.downpour import Downpour
from loosestep.strategies.easgd import EASGD
from loosestep.strategies.entropy_sgd import EntropySGD
from loosestep.strategies.fed_avg import FedAvg
from loosestep.strategies.hierarchical_sgd import HierarchicalLocalSGD
from loosestep.strategies.hogwild import Hogwild
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.strategies.momentum_downpour import MomentumDownpour
from loosestep.strategies.one_shot import OneShotAveraging
from loosestep.strategies.overlap_local_sgd import OverlapLocalSGD
from loosestep.strategies.parle import Parle
from loosestep.strategies.partially_synchronous import PartiallySynchronous
from loosestep.strategies.post_local_sgd import PostLocalSGD
from loosestep.strategies.round_robin_admm import RoundRobinADMM
from loosestep.strategies.round_robin_easgd import RoundRobinEASGD
from loosestep.strategies.scoping import Scoping
from loosestep.strategies.sgp import SGP
from loosestep.strategies.slowmo import SlowMo
from loosestep.strategies.ssp import SSP
from loosestep.strategies.stages import Stages
from loosestep.strategies.streaming_diloco import StreamingDiLoCo
from loosestep.strategies.sync_easgd import SyncEASGD
from loosestep.strategies.weed_out import WeedOut
from loosestep.topologies.base import Topology
from loosestep.topologies.complete import Complete
from loosestep.topologies.hypercube import Hypercube
from loosestep.topologies.one_peer_exponential import OnePeerExponential
from loosestep.topologies.ring import Ring
from loosestep.topologies.torus import Torus
from loosestep.transports.base import Transport
from loosestep.transports.delayed import Delayed
from loosestep.transports.failing import Failing
from loosestep.transports.metered import Metered
from loosestep.transports.mpi import MPI
from loosestep.transports.serial import Serial
from loosestep.transports.simulated import Simulated, stragglers
from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.probe import Probe
from loosestep.transports.simulated.stragglers import Stragglers
from loosestep.transports.threads import Threads
from loosestep.transports.zmq import ZMQ

__version__ = "0.1.0"

_warn_if_core_is_old()

__all__ = [
    "BMUF",
    "CDSGD",
    "DBS",
    "DCASGD",
    "E3M0",
    "EASGD",
    "LAMB",
    "LARS",
    "MPI",
    "SGD",
    "SGP",
    "SSP",
    "ZMQ",
    "Adam",
    "AdamW",
    "AdaptiveLocalSGD",
    "AllReduceSGD",
    "AsyncLocalSGD",
    "Averaged",
    "AveragedDownpour",
    "CoCoDSGD",
    "Codec",
    "Complete",
    "Cost",
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
    "Hypercube",
    "Interrupted",
    "LocalSGD",
    "Metered",
    "Momentum",
    "MomentumDownpour",
    "Need",
    "Nesterov",
    "OnePeerExponential",
    "OneShotAveraging",
    "Optimizer",
    "OverlapLocalSGD",
    "Parle",
    "PartiallySynchronous",
    "PostLocalSGD",
    "Prediction",
    "Prices",
    "Probe",
    "Progress",
    "RMSpropWarmup",
    "Result",
    "Ring",
    "RoundRobinADMM",
    "RoundRobinEASGD",
    "Scoping",
    "Serial",
    "Simulated",
    "SlowMo",
    "SplitResult",
    "Stages",
    "State",
    "Stragglers",
    "Strategy",
    "StreamingDiLoCo",
    "SyncEASGD",
    "Threads",
    "Topology",
    "Torus",
    "Transport",
    "WeedOut",
    "data",
    "launch",
    "least_squares",
    "ops",
    "predict",
    "probe",
    "run",
    "run_split",
    "schedules",
    "stragglers",
]
