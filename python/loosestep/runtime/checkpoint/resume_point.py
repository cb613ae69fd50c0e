"""Which checkpoint all processes go on from: the newest one of which every part is whole."""

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

    ranks: the workers of this process. ask: tells this process's word (JSON) to all, and returns those of all in
        rank order. Raises CheckpointError, in all processes alike, where none is whole or another run wrote it.
    """
    seen, words = look(folder)
    refuse(ask(words))
    views = ask([[each.run, each.number, each.folder] if isinstance(each, Manifest) else "" for each in seen])
    for rank, view in enumerate(views):
        if view != views[0]:
            raise CheckpointError(f"worker {rank} does not find what worker 0 finds in {folder.path}")
    damage: list[str] = []
    for place, each in enumerate(seen):
        if not isinstance(each, Manifest):
            damage.append(each)
            continue
        told = ask(state(folder, each, ranks))
        refuse([word if refused else "" for word, refused in told])
        found = next((word for word, _ in told if word), "")
        if not found:
            folder.use(each, [older for older in seen[place + 1 :] if isinstance(older, Manifest)])
            if damage and 0 in ranks:
                say(damage[0], each)
            return each
        damage.append(found)
    if damage:
        raise CheckpointError(damage[0])
    return None


def look(folder: Folder) -> tuple[list[Manifest | str], str]:
    """What this process finds, and what forbids to use it."""
    try:
        seen = folder.candidates()
        newest = next((each for each in seen if isinstance(each, Manifest)), None)
        if newest is not None:
            folder.check_signature(newest)
            seen = [each for each in seen if isinstance(each, str) or each.run == newest.run]
    except (CheckpointError, OSError) as error:
        return [], str(error) if isinstance(error, CheckpointError) else f"{folder.path} cannot be read: {error}"
    return seen, ""


def state(folder: Folder, found: Manifest, ranks: Sequence[int]) -> list[Any]:
    """What is wrong with the parts of a checkpoint, in words, and whether that is no damage but a refusal."""
    try:
        folder.check(found, ranks)
    except CheckpointError as error:
        return [str(error), not isinstance(error, Damaged)]
    return ["", False]


def refuse(words: Sequence[str]) -> None:
    """Raise the first that any process has to say."""
    for word in words:
        if word:
            raise CheckpointError(word)


def say(damage: str, used: Manifest) -> None:
    """One line, by the process of rank 0."""
    print(f"{damage}; going on from step {used.step} ({used.folder}), which is whole", file=sys.stderr, flush=True)
