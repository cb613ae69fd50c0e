"""What a checkpoint of a torch loop keeps beside its optimizers: the user's objects, and random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from loosestep.runtime.checkpoint.random_states import load_random_states, save_random_states
from loosestep.torch.saving import also as others

if TYPE_CHECKING:
    from loosestep.runtime.checkpoint.folder import Facts

Tensors = dict[str, Any]


class TorchBeside:
    """The objects of `also=`, and the states of torch's, numpy's and Python's generators."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def checked(self, also: Any) -> None:
        """Raise TypeError for objects that have no state to save and load."""
        others.checked(also)

    def save(self, also: Any, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""
        tensors["random"] = torch.get_rng_state().numpy()
        if self.device.type == "cuda":
            tensors["random.card"] = torch.cuda.get_rng_state(self.device).numpy()
        random = save_random_states(tensors)
        return {"also": others.save_also(also, tensors), "random": random}

    def check(self, also: Any, facts: Facts, where: str) -> None:
        """Refuse other objects than those that were saved, before anything is changed."""
        others.check_also(also, facts.get("also", []), where)

    def load(self, also: Any, tensors: Tensors, facts: Facts) -> None:
        """Load the objects that `save` was given."""
        others.load_also(also, facts.get("also", []), tensors)

    def load_random_states(self, tensors: Tensors, facts: Facts) -> None:
        """Let all generators go on drawing where the checkpoint stood, as far as it knows them."""
        torch.set_rng_state(torch.from_numpy(tensors["random"]))
        if "random.card" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(tensors["random.card"]), self.device)
        load_random_states(tensors, facts.get("random", {}))
