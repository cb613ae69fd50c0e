"""Local updates for loops that the library owns: what `Update()` does. One fused native pass each."""

from loosestep.optimizers.base import Optimizer, Shapes
from loosestep.optimizers.layerwise import LAMB, LARS
from loosestep.optimizers.plain import SGD, Adam, AdamW, Momentum, Nesterov
from loosestep.optimizers.rmsprop_warmup import RMSpropWarmup

__all__ = ["LAMB", "LARS", "SGD", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSpropWarmup", "Shapes"]
