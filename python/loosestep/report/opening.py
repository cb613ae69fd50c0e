"""The block that is printed before a run: what will be done, with what, on what."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loosestep.strategy import Strategy


def sentence(strategy: Strategy) -> str:
    """What a method does, in the first sentence of its documentation."""
    paragraph = " ".join((inspect.getdoc(type(strategy)) or "").split("\n\n")[0].split())
    first = paragraph.split(". ")[0].rstrip(".:")
    return first + "."


def block(facts: Mapping[str, str]) -> str:
    """Names and what they are, one a line."""
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {fact}" for name, fact in facts.items())
