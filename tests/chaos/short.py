"""The part of the suite that belongs to every run of the tests: these trials, and so many cases of these kinds."""

from __future__ import annotations

TRIALS = (
    "kind=rank_is_killed strategy=EASGD ranks=3 hosts=1+2 rank=1 step=37",
    "kind=launcher_is_interrupted_and_saves strategy=CoCoDSGD ranks=2 rank=0 step=40",
)

FUZZ: dict[str, tuple[int, tuple[str, ...]]] = {
    "texts": (40, ()),
    "checkpoints": (40, ()),
    "torch_checkpoints": (15, ()),
    "manifest_bits": (200, ()),
    "files": (30, ()),
    "matrices": (20, ()),
    "heartbeat": (10, ()),
}
"""For a module of `fuzz/`: how many cases, of which kinds (all if there are none)."""
