"""Parameters of other dtypes than the flat buffer's, and their places in it: kept in step from here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from loosestep.adapters.torch.flat import Slot


class Casts:
    """Between our calls the parameters are right, inside them the slots; each call begins and ends with a copy.

    slot <- param exactly: the flat dtype holds every value of the narrower ones.
    param <- slot rounded to nearest: exactly what it was, where no strategy has moved the slot.
    """

    def __init__(self, slots: list[Slot]) -> None:
        cast = [(slot.param.data, slot.cast) for slot in slots if slot.cast is not None]
        self.params = [param for param, _ in cast]  # as .data, so that autograd sees no write, as with views
        self.places = [place for _, place in cast]

    def __bool__(self) -> bool:
        return bool(self.params)

    def bring_in(self) -> None:
        """Parameters -> slots: before anything reads the flat buffer."""
        if self.params:
            torch._foreach_copy_(self.places, self.params)

    def carry_out(self) -> None:
        """Slots -> parameters: after a strategy may have moved the flat buffer."""
        if self.params:
            torch._foreach_copy_(self.params, self.places)
