"""Samples of a data set that stay in the memory of one host, or of several."""

from loosestep.data.cache.minio import MinIOCache
from loosestep.data.cache.store import CacheStats

__all__ = ["CacheStats", "MinIOCache"]
