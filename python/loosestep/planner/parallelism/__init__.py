"""How to distribute the training of one large model: data, tensor and pipeline degrees, microbatches, memory."""

from loosestep.planner.parallelism.distribution import Degrees, Training, distributed
from loosestep.planner.parallelism.estimator import Estimate, Estimator
from loosestep.planner.parallelism.executor import execute
from loosestep.planner.parallelism.hardware import Hardware, Link
from loosestep.planner.parallelism.layers import GELU, Attention, LayerNorm, Linear, ReLU, Residual
from loosestep.planner.parallelism.models import Model, mlp, of_torch, transformer
from loosestep.planner.parallelism.program import Op, Program
from loosestep.planner.parallelism.search import Ranking, search
from loosestep.planner.parallelism.simulator import Timeline, simulate
from loosestep.planner.parallelism.trace import chrome_trace

__all__ = [
    "GELU",
    "Attention",
    "Degrees",
    "Estimate",
    "Estimator",
    "Hardware",
    "LayerNorm",
    "Linear",
    "Link",
    "Model",
    "Op",
    "Program",
    "Ranking",
    "ReLU",
    "Residual",
    "Timeline",
    "Training",
    "chrome_trace",
    "distributed",
    "execute",
    "mlp",
    "of_torch",
    "search",
    "simulate",
    "transformer",
]
