"""Wire formats: how values are rounded to fewer bits before they are sent, and what they are afterwards."""

from loosestep.codecs.base import Codec
from loosestep.codecs.e3m0 import E3M0

__all__ = ["E3M0", "Codec"]
