"""Samples as bytes and back: pickled, with torch's tensors as the arrays that they are, which is much faster."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any


class Pickler(pickle.Pickler):
    """Pickles dense tensors on the CPU by their numpy array."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor is made again; the ordinary way for anything else."""
        torch: Any = sys.modules.get("torch")  # where samples are tensors
        if (
            torch is None
            or type(value) is not torch.Tensor
            or value.requires_grad
            or value.layout != torch.strided
        ):
            return NotImplemented
        if value.device.type != "cpu" or value.dtype in (torch.bfloat16, torch.complex32) or value.is_quantized:
            return NotImplemented
        try:
            return torch.from_numpy, (value.numpy(),)
        except (TypeError, RuntimeError):  # numpy has no such numbers
            return NotImplemented


def dumped(sample: Any, number: int, dataset: object, what: str = "sample") -> bytes:
    """Return the bytes of a sample, or a batch. Raises TypeError, which names it, if it cannot be pickled."""
    out = io.BytesIO()
    try:
        Pickler(out, pickle.HIGHEST_PROTOCOL).dump(sample)
    except (TypeError, AttributeError, pickle.PicklingError, RecursionError) as error:
        raise TypeError(
            f"{what} {number} of {type(dataset).__name__} cannot be kept: {error}; let the data set return "
            "arrays, tensors, bytes or numbers, and make the rest of them later, as in transform="
        ) from error
    return out.getvalue()


def loaded(content: bytes | memoryview) -> Any:
    """Return a copy of its own of the sample that was dumped."""
    return pickle.loads(content)
