"""The part of the suite that belongs to every run of the tests: these trials, and so many cases of these kinds."""

from __future__ import annotations

TRIALS = (
    "kind=rank_is_killed strategy=EASGD ranks=3 hosts=1+2 rank=1 step=37",
    "kind=launcher_is_interrupted_and_saves strategy=CoCoDSGD ranks=2 rank=0 step=40",
    "kind=save_fails_on_one_rank_and_is_caught strategy=EASGD loop=torch ranks=2 rank=1 step=30",
)

FUZZ: dict[str, tuple[int, tuple[str, ...]]] = {
    "texts": (150, ()),
    "checkpoints": (150, ()),
    "torch_checkpoints": (35, ()),
    "manifest_bits": (200, ()),
    "disk_touches": (240, ("dies_LocalSGD", "torn_EASGD", "full_CoCoDSGD")),
    "files": (100, ()),
    "matrices": (30, ()),
    "heartbeat": (10, ()),
}
"""For a module of `fuzz/`: how many cases, of which kinds (all if there are none)."""
