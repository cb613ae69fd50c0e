"""Data sets for classifiers, functions that deal rows to workers, and what keeps a loop from waiting for data."""

from loosestep.data import stalls
from loosestep.data.cache import CacheStats, MinIOCache
from loosestep.data.coordinated import CoordinatedLoader, LeftOut, PrepStats
from loosestep.data.dataset import Dataset
from loosestep.data.global_batch import GlobalBatch, GrowingBatch, global_batches
from loosestep.data.named_sets import find, load, names
from loosestep.data.sharding import shards, steps_per_epoch

__all__ = [
    "CacheStats",
    "CoordinatedLoader",
    "Dataset",
    "GlobalBatch",
    "GrowingBatch",
    "LeftOut",
    "MinIOCache",
    "PrepStats",
    "find",
    "global_batches",
    "load",
    "names",
    "shards",
    "stalls",
    "steps_per_epoch",
]
