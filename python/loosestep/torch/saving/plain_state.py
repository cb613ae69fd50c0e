"""The state dict of a plain torch optimizer, from before a script was made parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from loosestep.foundation.buffers import here
from loosestep.foundation.errors import Mismatch
from loosestep.torch.buffers.statistics import broadcast
from loosestep.torch.saving.contents import TorchContents
from loosestep.torch.saving.serialize import to_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.runtime.checkpoint.member import Member
    from loosestep.torch.hyperparameters import Hyperparameters

WHAT = "load_state_dict()"
START = dict.fromkeys(("clock", "updates", "samples", "part", "round", "progress", "inside"), 0)


def load_plain(member: Member, state_dict: dict[str, Any], hyperparameters: Hyperparameters) -> None:
    """Load it on all workers, and begin the run anew: at rank 0's parameters, with a fresh state of the strategy.

    Raises Mismatch where workers were given different ones.
    """
    if not member.agreement.meet(WHAT, f"{checksum(state_dict):08x}"):
        raise Mismatch(f"{WHAT} was given different state dicts by the workers: load one file on all of them")
    contents = member.contents
    assert isinstance(contents, TorchContents)
    contents.inner.load_state_dict(state_dict)
    hyperparameters.check(WHAT)
    member.loop.connection.run_unmetered(broadcast(contents.layout, contents.untrained.model))
    member.begin_again({"params": here(member.worker.params).copy()}, dict(START), WHAT, "the model")
    member.agreement.meet(WHAT)


def checksum(value: Any) -> int:
    """Return a checksum of all tensors in a state dict, in order."""
    found = 0
    for tensor in tensors(value):
        found = crc32(to_array("a state", tensor).tobytes(), found)
    return found


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in dicts and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors(each)
