"""What can go wrong on a card."""

from __future__ import annotations

from loosestep.errors import LoosestepError


class CardFailed(LoosestepError):
    """No card, no driver, no compiler, a kernel that does not compile or start. No buffer was changed."""
