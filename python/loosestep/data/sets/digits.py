"""Handwritten digits, 8 x 8, that come with scikit-learn: 1,797 rows, ten classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.data.dataset import Dataset, split, standardized

if TYPE_CHECKING:
    from pathlib import Path


FILES: dict[str, str] = {}  # none that a user could have in a folder


def read(folder: Path | None) -> Dataset:
    """Return standardized pixels, always the same four fifths to train. Needs no folder and no network."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits come with scikit-learn: pip install "loosestep[demo]"') from error
    x_train, y_train, x_test, y_test = split(*load_digits(return_X_y=True))
    x_train, x_test = standardized(x_train, x_test)
    return Dataset("digits", x_train, y_train, x_test, y_test)
