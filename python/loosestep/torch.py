"""PyTorch: `parallel` for a loop of your own, `Model` for one that the library owns."""

from loosestep.adapters.torch.network import Model
from loosestep.adapters.torch.optimizer import Parallel
from loosestep.adapters.torch.parallel import parallel

__all__ = ["Model", "Parallel", "parallel"]
