"""The checkpoint from which all processes resume: the newest one of which every part is whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.runtime.checkpoint.folder import Folder


def choose(folder: Folder, ranks: Sequence[int], ask: Callable[[Any], list[Any]]) -> Manifest | None:
    """Go to the newest checkpoint of which every part is whole; None where there is none at all.

    ranks: the workers of this process. ask: gives this process's answer (JSON) to all, and returns all answers in
        rank order. Raises CheckpointError, in all processes alike, where none is whole or another run wrote it.
    """
    found, messages = scan(folder)
    refuse(ask(messages))
    views = ask([[each.run, each.number, each.folder] if isinstance(each, Manifest) else "" for each in found])
    for rank, view in enumerate(views):
        if view != views[0]:
            raise CheckpointError(f"worker {rank} does not find what worker 0 finds in {folder.path}")
    damage: list[str] = []
    for place, each in enumerate(found):
        if not isinstance(each, Manifest):
            damage.append(each)
            continue
        answers = ask(damage_of(folder, each, ranks))
        refuse([message if refused else "" for message, refused in answers])
        damaged = next((message for message, _ in answers if message), "")
        if not damaged:
            folder.use(each, [older for older in found[place + 1 :] if isinstance(older, Manifest)])
            if damage and 0 in ranks:
                report(damage[0], each)
            return each
        damage.append(damaged)
    if damage:
        raise CheckpointError(damage[0])
    return None


def scan(folder: Folder) -> tuple[list[Manifest | str], str]:
    """Return the checkpoints that this process finds, and why it must not use them (empty if it may)."""
    try:
        found = folder.candidates()
        newest = next((each for each in found if isinstance(each, Manifest)), None)
        if newest is not None:
            folder.check_signature(newest)
            found = [each for each in found if isinstance(each, str) or each.run == newest.run]
    except (CheckpointError, OSError) as error:
        return [], str(error) if isinstance(error, CheckpointError) else f"{folder.path} cannot be read: {error}"
    return found, ""


def damage_of(folder: Folder, found: Manifest, ranks: Sequence[int]) -> list[Any]:
    """Return what is wrong with the parts of a checkpoint, and whether that forbids to use an older one."""
    try:
        folder.check(found, ranks)
    except CheckpointError as error:
        return [str(error), not isinstance(error, Damaged)]
    return ["", False]


def refuse(messages: Sequence[str]) -> None:
    """Raise CheckpointError with the first message that is not empty."""
    for message in messages:
        if message:
            raise CheckpointError(message)


def report(damage: str, used: Manifest) -> None:
    """Print one line about the damage. Called by the process of rank 0."""
    print(f"{damage}; going on from step {used.step} ({used.folder}), which is whole", file=sys.stderr, flush=True)
