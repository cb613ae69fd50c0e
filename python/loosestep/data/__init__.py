"""Data sets for classifiers, and functions that deal their rows to workers."""

from loosestep.data.dataset import Dataset
from loosestep.data.global_batch import GlobalBatch, GrowingBatch, global_batches
from loosestep.data.named_sets import find, load, names
from loosestep.data.sharding import shards, steps_per_epoch

__all__ = [
    "Dataset",
    "GlobalBatch",
    "GrowingBatch",
    "find",
    "global_batches",
    "load",
    "names",
    "shards",
    "steps_per_epoch",
]
