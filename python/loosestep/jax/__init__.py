"""JAX: `parallel` for a loop of your own over a pytree, `Model` for one that the library owns."""

from loosestep.jax.model import Model
from loosestep.jax.trainer import Trainer
from loosestep.jax.wrap import parallel

__all__ = ["Model", "Trainer", "parallel"]
