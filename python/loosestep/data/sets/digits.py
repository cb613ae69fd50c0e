"""Handwritten digits, 8 x 8, that come with scikit-learn: 1,797 rows, ten classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loosestep.data.dataset import Dataset, split

if TYPE_CHECKING:
    from pathlib import Path


FILES: dict[str, str] = {}  # none that a user could have in a folder


def read(folder: Path | None) -> Dataset:
    """Pixels from 0 to 1; four fifths to train, the same always. Needs no folder and no network."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits come with scikit-learn: pip install "loosestep[demo]"') from error
    pixels, labels = load_digits(return_X_y=True)
    return Dataset("digits", *split((pixels / 16).astype(np.float32), labels))
