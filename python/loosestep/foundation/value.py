"""Configuration as values: frozen, compared by content, printed as a user would write them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np


def instance(cls: type[Any]) -> Any:
    """Return an instance with all defaults, or the example of a class without."""
    whole = all(field.default is not MISSING or field.default_factory is not MISSING for field in fields(cls))
    return cls() if whole else cls.example()


class Value:
    """Base of every frozen dataclass that a user writes down; `repr` leaves defaults out.

    >>> from loosestep import EASGD
    >>> EASGD(period=8)
    EASGD(period=8)
    """

    __slots__ = ()

    def __repr__(self) -> str:
        shown: list[str] = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if not field.repr or (default is not MISSING and value == default):
                continue
            positional = default is MISSING and not shown
            value = value.item() if isinstance(value, np.generic) else value  # as the number that it is
            shown.append(repr(value) if positional else f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
