"""Shared variables as the user's functions see them: arrays to read, and three operations that can be merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.foundation.buffers import Buffer

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"

ONE_PLACE = (int, np.integer, slice, type(...), type(None))
"""Kinds of index that name no element twice."""


class Late(NamedTuple):
    """An addition that waits until its sample is processed again."""

    name: str
    value: Any
    at: Any


class Layout:
    """Where each variable is in a flat buffer."""

    def __init__(self, given: Mapping[str, Array]) -> None:
        self.shapes = {name: array.shape for name, array in given.items()}
        itemsize = next(iter(given.values())).itemsize
        places = [start // itemsize for start in buffers.places([array.nbytes for array in given.values()])]
        self.slots = {
            name: slice(start, start + array.size)
            for (name, array), (start, _) in zip(given.items(), pairwise(places), strict=True)
        }

    def views(self, buffer: Buffer) -> dict[str, Array]:
        """Return the variables in a buffer, by name."""
        return {name: buffer[slot].reshape(self.shapes[name]) for name, slot in self.slots.items()}

    def readable(self, buffer: Buffer) -> dict[str, Array]:
        """Return them such that they cannot be written."""
        views = self.views(buffer)
        for view in views.values():
            view.flags.writeable = False
        return views

    def not_finite(self, buffer: Buffer) -> str | None:
        """Return the name of the first variable that holds a value that is not finite."""
        if ops.all_finite(buffer):
            return None
        return next(name for name, view in self.views(buffer).items() if not np.isfinite(view).all())


class Values:
    """Shared variables to read: `shared["w"]` is an array that cannot be written, of no dimension for a number.

    Raises ValueError for a name that is not declared.
    """

    def __init__(self, layout: Layout, buffer: Buffer) -> None:
        self._layout, self._buffer = layout, buffer
        self._seen = layout.readable(buffer)

    def __getitem__(self, name: str) -> Array:
        """Return a variable as it is now; the array changes with it."""
        try:
            return self._seen[name]
        except KeyError:
            raise self._undeclared(name) from None

    def __setitem__(self, name: str, value: object) -> None:
        """Refuse: what is set could not be merged."""
        raise TypeError(f"{name!r} can be changed by add, delayed_add and multiply, and cannot be set")

    def __contains__(self, name: object) -> bool:
        """Return whether a variable is declared."""
        return name in self._seen

    def __iter__(self) -> Iterator[str]:
        """Iterate over the variables' names."""
        return iter(self._seen)

    def _undeclared(self, name: str) -> ValueError:
        known = ", ".join(map(repr, self._seen))
        return ValueError(f"{name!r} is not declared: shared has {known}")


class Variables(Values):
    """One worker's values of the shared variables, for `process`: what it changes is seen at once by the worker's
    next samples, and by other workers after they have met.

        v <- Gamma v + D + T    for the worker, Gamma the product of what it multiplied by, D what it added, T what
                                it added late
        v <- mean_i(Gamma_i v + D_i) + sum_i T_i    where m workers meet

    An index `at` is as for numpy; a place that it names twice is changed twice.

    Raises ValueError for a variable that is not declared, and for a value or an index that does not fit.
    """

    def __init__(self, layout: Layout, buffer: Buffer) -> None:
        super().__init__(layout, buffer)
        self._mine = layout.views(buffer)
        self._late_buffer: Buffer | None = None
        self._late: dict[str, Array] = {}
        self._late_in_use = False
        self._random: np.random.Generator | None = None
        self._key: tuple[int, ...] = ()
        self._weight = 1
        self.postponed: list[Late] = []

    @property
    def random(self) -> np.random.Generator:
        """This worker's random numbers: by the run's seed, the worker and the round, the same on any transport."""
        if self._random is None:
            self._random = np.random.default_rng(self._key)
        return self._random

    def add(self, name: str, value: Any, at: Any = ...) -> None:
        """Add a value to a variable, or to its elements `at`; workers' additions are averaged.

        So what a sample adds is to be in proportion to its weight, which is the number of workers that meet.
        """
        self._change(np.add, "add", name, value, at)

    def delayed_add(self, name: str, value: Any, at: Any = ...) -> None:
        """Add a value when this sample is processed the next time, before `process` is called.

        It is divided by the weight, and workers' late additions are summed: `delayed_add("n", -weight)` takes back
        exactly what `add("n", weight)` has come to, whatever the weight is then.
        """
        view = self._variable(name)
        try:
            place = view[at]
            given = real(value)
            kept = float(given) / self._weight if given.ndim == 0 else self._divided(given, np.shape(place))
        except (ValueError, IndexError, TypeError) as error:
            raise self._misfit("delayed_add", name, value, at, error) from error
        self.postponed.append(Late(name, kept, at.copy() if isinstance(at, np.ndarray) else at))

    def multiply(self, name: str, factor: Any, at: Any = ...) -> None:
        """Multiply a variable, or its elements `at`, by a factor, also by 0; it costs time for each element.

        Workers' factors are averaged, so they should be alike: a factor for each sample, to the power of its
        weight.
        """
        self._change(np.multiply, "multiply", name, factor, at)
        if self._late_in_use:
            _change(np.multiply, self._late[name], factor, at)

    # --- the engine's side ---------------------------------------------------------------------------------------

    def _begin(self, values: Buffer, weight: int, key: tuple[int, ...]) -> None:
        """Begin a round at the values of all, with samples of that weight."""
        ops.copy(values, self._buffer)
        self._weight, self._key, self._random = weight, key, None
        if self._late_in_use and self._late_buffer is not None:
            self._late_buffer.fill(0)
        self._late_in_use = False

    def _add_late(self, late: list[Late]) -> None:
        """Make the additions that a sample has left."""
        for name, value, at in late:
            _change(np.add, self._mine[name], value, at)
        if self._weight > 1:
            if self._late_buffer is None:
                self._late_buffer = buffers.like(self._buffer)
                self._late = self._layout.views(self._late_buffer)
            self._late_in_use = True
            for name, value, at in late:
                _change(np.add, self._late[name], value, at)

    def _contribution(self) -> Buffer:
        """Return the vector whose mean over the workers is Gamma v + mean D + sum T: their values, and (m-1) T."""
        if self._late_in_use and self._late_buffer is not None:
            ops.axpy(self._buffer, self._late_buffer, float(self._weight - 1))
        return self._buffer

    def _divided(self, given: Array, shape: tuple[int, ...]) -> Array:
        """Return an array divided by the weight; refuse one that could not be added to such a shape."""
        np.broadcast_to(given, shape)
        divided: Array = np.divide(given, self._weight)
        return divided

    def _variable(self, name: str) -> Array:
        try:
            return self._mine[name]
        except KeyError:
            raise self._undeclared(name) from None

    def _change(self, ufunc: np.ufunc, word: str, name: str, value: Any, at: Any) -> None:
        view = self._variable(name)
        try:
            _change(ufunc, view, value, at)
        except (ValueError, IndexError, TypeError) as error:
            raise self._misfit(word, name, value, at, error) from error

    def _misfit(self, word: str, name: str, value: Any, at: Any, error: Exception) -> ValueError:
        where = "" if at is ... else f", at {at!r}"
        return ValueError(
            f"{word} of a value of shape {np.shape(value)} does not fit {name!r} of shape "
            f"{self._layout.shapes[name]}{where}: {error}"
        )


def _change(ufunc: np.ufunc, view: Array, value: Any, at: Any) -> None:
    """Change elements in place; those that an index names twice are changed twice."""
    if isinstance(at, ONE_PLACE) or (type(at) is tuple and all(isinstance(each, ONE_PLACE) for each in at)):
        if ufunc is np.add:
            view[at] += value
        else:
            view[at] *= value
    else:
        ufunc.at(view, at, real(value))  # it would drop an imaginary part


def real(value: Any) -> Array:
    """Return an array of a value; refuse what is no real number."""
    given = np.asarray(value)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"real numbers are wanted, got {given.dtype}")
    return given
