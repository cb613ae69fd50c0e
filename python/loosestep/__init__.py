"""Parallel SGD that need not march in lockstep."""

from loosestep import adversarial, data, ops
from loosestep.cli.launch.functions import launch
from loosestep.codecs.base import Codec
from loosestep.codecs.bins import Bins
from loosestep.codecs.e3m0 import E3M0
from loosestep.codecs.floats import BFloat16, Float8, Float16
from loosestep.codecs.power_sgd import PowerSGD
from loosestep.codecs.qsgd import QSGD
from loosestep.codecs.random_k import RandomK
from loosestep.codecs.sign import Sign
from loosestep.codecs.top_k import ChunkedTopK, TopK
from loosestep.foundation.core_age import warn_if_old as _warn_if_core_is_old
from loosestep.optimizers import least_squares, pruning, schedules
from loosestep.optimizers.adam import Adam, AdamW
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.layerwise import LAMB, LARS
from loosestep.optimizers.muon import Muon
from loosestep.optimizers.rmsprop_warmup import RMSpropWarmup
from loosestep.optimizers.samplers import PSGLD, SGHMC, SGLD, Sampler
from loosestep.optimizers.sgd import SGD, Momentum, Nesterov
from loosestep.planner.methods.plan import plan
from loosestep.planner.prediction import Prediction, predict
from loosestep.planner.probing.measure import probe
from loosestep.requests.row_gradients import Rows
from loosestep.runtime.result import Interrupted, Progress, Result
from loosestep.runtime.run import run
from loosestep.runtime.sampling.samples import Samples
from loosestep.runtime.split_model import SplitResult, run_split
from loosestep.strategies.adaptive_local_sgd import AdaptiveLocalSGD
from loosestep.strategies.adpsgd import ADPSGD
from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.strategies.async_local_sgd import AsyncLocalSGD
from loosestep.strategies.averaged import Averaged
from loosestep.strategies.averaged_downpour import AveragedDownpour
from loosestep.strategies.base import Cost, Need, State, Strategy
from loosestep.strategies.bmuf import BMUF
from loosestep.strategies.cdsgd import CDSGD
from loosestep.strategies.choco_sgd import ChocoSGD
from loosestep.strategies.cocod_sgd import CoCoDSGD
from loosestep.strategies.d2 import D2
from loosestep.strategies.dasgd import DaSGD
from loosestep.strategies.dbs import DBS
from loosestep.strategies.dcasgd import DCASGD
from loosestep.strategies.decent_lam import DecentLaM
from loosestep.strategies.decoupled_diloco import DecoupledDiLoCo
from loosestep.strategies.demo import DeMo
from loosestep.strategies.desloc import DESLOC
from loosestep.strategies.diloco import DiLoCo
from loosestep.strategies.downpour import Downpour
from loosestep.strategies.downpour_mcmc import DownpourMCMC
from loosestep.strategies.dpsgd import DPSGD
from loosestep.strategies.eager_diloco import EagerDiLoCo
from loosestep.strategies.easgd import EASGD
from loosestep.strategies.elastic_gossip import ElasticGossip
from loosestep.strategies.elastic_mcmc import ElasticMCMC
from loosestep.strategies.entropy_sgd import EntropySGD
from loosestep.strategies.error_feedback import ErrorFeedback
from loosestep.strategies.fed_avg import FedAvg
from loosestep.strategies.fed_buff import FedBuff
from loosestep.strategies.gasloc import GASLoC
from loosestep.strategies.gosgd import GoSGD
from loosestep.strategies.gpa import GPA
from loosestep.strategies.gradient_tracking import GradientTracking
from loosestep.strategies.halos import HALoS
from loosestep.strategies.heloco import HeLoCo
from loosestep.strategies.hierarchical import Hierarchical
from loosestep.strategies.hierarchical_sgd import HierarchicalLocalSGD
from loosestep.strategies.hogwild import Hogwild
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.strategies.loscar import LOSCAR
from loosestep.strategies.momentum_downpour import MomentumDownpour
from loosestep.strategies.noloco import NoLoCo
from loosestep.strategies.one_shot import OneShotAveraging
from loosestep.strategies.overlap_local_sgd import OverlapLocalSGD
from loosestep.strategies.overlap_sgp import OverlapSGP
from loosestep.strategies.parle import Parle
from loosestep.strategies.partially_synchronous import PartiallySynchronous
from loosestep.strategies.post_local_sgd import PostLocalSGD
from loosestep.strategies.psops import PSOPS
from loosestep.strategies.ringleader import Ringleader
from loosestep.strategies.ringmaster import Ringmaster
from loosestep.strategies.round_robin_admm import RoundRobinADMM
from loosestep.strategies.round_robin_easgd import RoundRobinEASGD
from loosestep.strategies.scoping import Scoping
from loosestep.strategies.sdfeel import SDFEEL
from loosestep.strategies.sgp import SGP
from loosestep.strategies.slowmo import SlowMo
from loosestep.strategies.snoo import SNOO
from loosestep.strategies.sparse_loco import SparseLoCo
from loosestep.strategies.sparta import SPARTA
from loosestep.strategies.sparta_diloco import SPARTADiLoCo
from loosestep.strategies.ssp import SSP
from loosestep.strategies.stages import Stages
from loosestep.strategies.streaming_diloco import StreamingDiLoCo
from loosestep.strategies.sync_easgd import SyncEASGD
from loosestep.strategies.weed_out import WeedOut
from loosestep.topologies.base import Topology
from loosestep.topologies.complete import Complete
from loosestep.topologies.erdos_renyi import ErdosRenyi
from loosestep.topologies.graph import Graph
from loosestep.topologies.hierarchical_ring import HierarchicalRing
from loosestep.topologies.hypercube import Hypercube
from loosestep.topologies.lazy import Lazy
from loosestep.topologies.one_peer_exponential import OnePeerExponential
from loosestep.topologies.random_matching import RandomMatching
from loosestep.topologies.random_regular import RandomRegular
from loosestep.topologies.ring import Ring
from loosestep.topologies.star import Star
from loosestep.topologies.static_exponential import StaticExponential
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
    "ADPSGD",
    "BMUF",
    "CDSGD",
    "D2",
    "DBS",
    "DCASGD",
    "DESLOC",
    "DPSGD",
    "E3M0",
    "EASGD",
    "GPA",
    "LAMB",
    "LARS",
    "LOSCAR",
    "MPI",
    "PSGLD",
    "PSOPS",
    "QSGD",
    "SDFEEL",
    "SGD",
    "SGHMC",
    "SGLD",
    "SGP",
    "SNOO",
    "SPARTA",
    "SSP",
    "ZMQ",
    "Adam",
    "AdamW",
    "AdaptiveLocalSGD",
    "AllReduceSGD",
    "AsyncLocalSGD",
    "Averaged",
    "AveragedDownpour",
    "BFloat16",
    "Bins",
    "ChocoSGD",
    "ChunkedTopK",
    "CoCoDSGD",
    "Codec",
    "Complete",
    "Cost",
    "DaSGD",
    "DeMo",
    "DecentLaM",
    "DecoupledDiLoCo",
    "Delayed",
    "DiLoCo",
    "Downpour",
    "DownpourMCMC",
    "EagerDiLoCo",
    "ElasticGossip",
    "ElasticMCMC",
    "EntropySGD",
    "ErdosRenyi",
    "ErrorFeedback",
    "Failing",
    "FedAvg",
    "FedBuff",
    "Float8",
    "Float16",
    "GASLoC",
    "GoSGD",
    "GradientTracking",
    "Graph",
    "HALoS",
    "HeLoCo",
    "Hierarchical",
    "HierarchicalLocalSGD",
    "HierarchicalRing",
    "Hogwild",
    "Hypercube",
    "Interrupted",
    "Lazy",
    "LocalSGD",
    "Metered",
    "Momentum",
    "MomentumDownpour",
    "Muon",
    "Need",
    "Nesterov",
    "NoLoCo",
    "OnePeerExponential",
    "OneShotAveraging",
    "Optimizer",
    "OverlapLocalSGD",
    "OverlapSGP",
    "Parle",
    "PartiallySynchronous",
    "PostLocalSGD",
    "PowerSGD",
    "Prediction",
    "Prices",
    "Probe",
    "Progress",
    "RMSpropWarmup",
    "RandomK",
    "RandomMatching",
    "RandomRegular",
    "Result",
    "Ring",
    "Ringleader",
    "Ringmaster",
    "RoundRobinADMM",
    "RoundRobinEASGD",
    "Rows",
    "SPARTADiLoCo",
    "Sampler",
    "Samples",
    "Scoping",
    "Serial",
    "Sign",
    "Simulated",
    "SlowMo",
    "SparseLoCo",
    "SplitResult",
    "Stages",
    "Star",
    "State",
    "StaticExponential",
    "Stragglers",
    "Strategy",
    "StreamingDiLoCo",
    "SyncEASGD",
    "Threads",
    "TopK",
    "Topology",
    "Torus",
    "Transport",
    "WeedOut",
    "adversarial",
    "data",
    "launch",
    "least_squares",
    "ops",
    "plan",
    "predict",
    "probe",
    "pruning",
    "run",
    "run_split",
    "schedules",
    "stragglers",
]
