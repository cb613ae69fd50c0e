"""Adversarial training: attacks on inputs, and a model that trains on what they find.

`loosestep.torch.AdversarialLoss` is the same for a PyTorch loop of your own.
"""

from loosestep.adversarial.attack import Attack
from loosestep.adversarial.fgsm import FGSM
from loosestep.adversarial.model import AdversarialGradient, AdversarialModel
from loosestep.adversarial.pgd import PGD

__all__ = ["FGSM", "PGD", "AdversarialGradient", "AdversarialModel", "Attack"]
