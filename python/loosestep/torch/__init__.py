"""PyTorch: `parallel` for a loop of your own, `Model` for one that the library owns."""

from loosestep.torch.gradients.adversarial_loss import AdversarialLoss
from loosestep.torch.gradients.sampler import Sampler
from loosestep.torch.group import ParallelGroup
from loosestep.torch.module import Model
from loosestep.torch.optimizer import Parallel
from loosestep.torch.saving.several import restore_together, save_together
from loosestep.torch.world import world
from loosestep.torch.wrap import parallel

__all__ = [
    "AdversarialLoss",
    "Model",
    "Parallel",
    "ParallelGroup",
    "Sampler",
    "parallel",
    "restore_together",
    "save_together",
    "world",
]
