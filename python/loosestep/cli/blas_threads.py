"""The number of threads of numpy's linear algebra. Commands set it, and say so; an import never does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_thread() -> Iterator[str]:
    """Give each worker one BLAS thread inside of this context; yield a text that says what was done.

    Workers are threads already: more under them only take the processors from each other. And one thread has
    one order of summation, so that every transport gives the same bits.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield "not limited, which is slow: pip install threadpoolctl"
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield "one a worker"
