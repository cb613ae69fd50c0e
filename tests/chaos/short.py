"""The part of the suite that belongs to every run of the tests: these trials, and so many cases of these kinds."""

from __future__ import annotations

TRIALS = (
    "kind=rank_is_killed strategy=EASGD ranks=3 hosts=1+2 rank=1 step=37",
    "kind=launcher_is_interrupted_and_saves strategy=CoCoDSGD ranks=2 rank=0 step=40",
    "kind=thread_raises strategy=Hogwild loop=torch ranks=2 rank=1 step=30",
)

FUZZ: dict[str, tuple[int, tuple[str, ...]]] = {
    "texts": (250, ("call", "characters", "edited", "nested", "tokens")),
    "checkpoints": (
        200,
        (
            "cut", "drafts_are_left", "file_is_a_folder", "file_is_missing", "folder_is_missing",
            "length_of_a_head_is_wrong", "nothing", "one_bit_of_a_part", "put_in", "strangers_are_there",
        ),
    ),
    "torch_checkpoints": (
        44,
        (
            "cut", "file_is_a_folder", "file_is_missing", "folder_is_missing", "many_bits", "nothing",
            "one_bit_of_a_part", "put_in", "strangers_are_there", "swapped", "length_of_a_head_is_wrong",
        ),
    ),
    "disk_touches": (204, ("dies_LocalSGD", "torn_EASGD", "full_CoCoDSGD")),
    "files": (150, ("idx_packed", "svm_bytes", "svm_numbers")),
    "heartbeat": (12, ("another_key", "bits_of_the_key", "both_ways", "cut_or_longer", "flooded", "random_bytes")),
}  # fmt: skip
"""For a module of `fuzz/`: how many cases, of which kinds (all if there are none)."""
