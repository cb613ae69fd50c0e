"""A test of many cases fails with all that are wrong, by name, and runs each."""

from __future__ import annotations

import inspect
import re

import pytest
from tests.looped import looped


def test_every_case_runs_and_those_that_fail_are_named() -> None:
    seen = []

    @looped("n", [1, 2])
    @looped("word, length", [("a", 1), ("bc", 2), ("def", 2)])
    def check(tmp_path: str, n: int, word: str, length: int) -> None:
        seen.append((tmp_path, n, word))
        assert len(word) == length, f"{word} is longer"

    assert list(inspect.signature(check).parameters) == ["tmp_path"]
    words = "2 of 2 cases fail\nn=1: AssertionError: 1 of 3 cases fail\nword='def', length=2: AssertionError: def "
    with pytest.raises(AssertionError, match=f"^{re.escape(words)}"):
        check(tmp_path="here")
    assert seen == [("here", n, word) for n in (1, 2) for word in ("a", "bc", "def")]


def test_no_case_is_no_test() -> None:
    with pytest.raises(AssertionError, match="no case is no proof"):
        looped("n", [])(lambda n: None)
