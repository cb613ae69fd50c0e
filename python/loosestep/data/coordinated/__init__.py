"""Batches that several jobs on one host prepare together."""

from loosestep.data.coordinated.board import LeftOut, PrepStats
from loosestep.data.coordinated.loader import CoordinatedLoader

__all__ = ["CoordinatedLoader", "LeftOut", "PrepStats"]
