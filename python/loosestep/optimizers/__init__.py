"""Update rules of loops that the library owns, one fused native pass each: what `Update()` performs."""

from loosestep.optimizers.base import Optimizer, Shapes

__all__ = ["Optimizer", "Shapes"]
