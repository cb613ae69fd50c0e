"""Objects of the user's that are saved beside model and optimizer: schedulers, scalers, averaged models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import CheckpointError
from loosestep.torch.saving.serialize import decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.runtime.checkpoint.folder import Facts

Tensors = dict[str, Any]


def checked(also: Any) -> list[Any]:
    """Return the objects as a list. Raises TypeError for what has no state to save and load."""
    if not isinstance(also, (list, tuple)):
        raise TypeError(f"also must be a list of objects with state_dict(), got {type(also).__name__}")
    for place, each in enumerate(also):
        for method in ("state_dict", "load_state_dict"):
            if not callable(getattr(each, method, None)):
                raise TypeError(f"also[{place}] is of type {type(each).__name__}, which has no {method}()")
    return list(also)


def save_also(also: Sequence[Any], tensors: Tensors) -> list[Facts]:
    """Put tensors of the objects' states into `tensors`, and return the rest as JSON."""
    return [
        {"kind": type(each).__name__, "state": encode(f"also.{place}", each.state_dict(), tensors)}
        for place, each in enumerate(also)
    ]


def check_also(also: Sequence[Any], kept: Sequence[Facts], where: str) -> None:
    """Refuse other objects than those that were saved, before anything is changed."""
    there, here = [each["kind"] for each in kept], [type(each).__name__ for each in also]
    if there != here:
        raise CheckpointError(
            f"{where} was saved with also={listed(there)}, and restore() has also={listed(here)}: give objects of "
            "the same types in the same order"
        )


def listed(kinds: Sequence[str]) -> str:
    """Return the names of types as they stand in a list."""
    return f"[{', '.join(kinds)}]"


def load_also(also: Sequence[Any], kept: Sequence[Facts], tensors: Tensors) -> None:
    """Load what `save_also` was given."""
    for each, facts in zip(also, kept, strict=True):
        each.load_state_dict(decode(facts["state"], tensors))
