"""Many cheap cases as one test: pytest takes milliseconds to make, run and report each test, in every worker."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def looped(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make one test of all cases, as `pytest.mark.parametrize(names, cases)` makes one of each.

    It goes on after a case that fails, and fails in the end with all of these by name. Fixtures are shared by all
    cases.
    """
    words, all_ = [name.strip() for name in names.split(",")], list(cases)

    def made(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def loop(**fixtures: Any) -> None:
            wrong: list[tuple[str, Exception]] = []
            for case in all_:
                given = dict(zip(words, case if len(words) > 1 else (case,), strict=True))
                try:
                    test(**fixtures, **given)
                except Exception as error:
                    wrong.append((", ".join(f"{name}={value!r}" for name, value in given.items()), error))
            told = [f"{label}: {type(error).__name__}: {error}" for label, error in wrong]
            if wrong:
                raise AssertionError("\n".join([f"{len(wrong)} of {len(all_)} cases fail", *told])) from wrong[0][
                    1
                ]

        assert all_, "no case is no proof"
        kept = [each for name, each in inspect.signature(test).parameters.items() if name not in words]
        loop.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
        return loop

    return made
