"""Every bit of one small manifest: a case is a bit, the first of them the first, and so on to the last."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.chaos.fuzz.checkpoints import SOURCES
from tests.chaos.mutations import flipped, tellers

if TYPE_CHECKING:
    from tests.chaos.draw import Draw

ALL = 16_000  # bits, or more than there are


def bit(draw: Draw) -> str:
    source, folder = SOURCES[0], draw.folder / "run"
    shutil.copytree(source.written(4, 0), folder)
    file = tellers(folder)[0]
    raw = file.read_bytes()
    if draw.turn >= 8 * len(raw):
        return "there-is-none"
    file.write_bytes(flipped(raw, draw.turn))
    return source.resumed(folder)


KINDS = {"bit": bit}
