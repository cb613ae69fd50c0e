"""Local updates for loops that the library owns: what `Update()` does. One fused native pass each."""

from loosestep.optimizers.adam import Adam, AdamW
from loosestep.optimizers.base import Optimizer, Shapes
from loosestep.optimizers.layerwise import LAMB, LARS
from loosestep.optimizers.rmsprop_warmup import RMSpropWarmup
from loosestep.optimizers.sgd import SGD, Momentum, Nesterov

__all__ = ["LAMB", "LARS", "SGD", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSpropWarmup", "Shapes"]
