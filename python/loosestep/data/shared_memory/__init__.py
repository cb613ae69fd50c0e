"""Memory that the processes of one host map, whatever started them, and that ends with the last of them."""

from loosestep.data.shared_memory.named import Named
from loosestep.data.shared_memory.segment import Segment

__all__ = ["Named", "Segment"]
