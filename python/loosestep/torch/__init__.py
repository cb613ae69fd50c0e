"""PyTorch: `parallel` for a loop of your own, `Model` for one that the library owns."""

from loosestep.torch.group import ParallelGroup
from loosestep.torch.module import Model
from loosestep.torch.optimizer import Parallel
from loosestep.torch.wrap import parallel

__all__ = ["Model", "Parallel", "ParallelGroup", "parallel"]
