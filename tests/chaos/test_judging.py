"""The judgement of a trial finds what is wrong, each thing by its own sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.chaos.judging import Outcome, judge, judge_resumed
from tests.chaos.kind import found
from tests.chaos.spec import Spec

KINDS = found()
OUT = "going 7 0\nbits 0000000a finite\ndone 0\ngoing 8 1\ndone 1\n"
ENDED = Outcome(0, 2.0, OUT, "", {}, [], [], ["manifest.json"])
FAILED = replace(ENDED, code=137, out="going 7 0\n", err="loosestep run: rank 1 on x was killed by signal 9")
BITS = "0000000a finite"


def wrong(kind: str, outcome: Outcome, **changes: Any) -> list[str]:
    spec = Spec(kind, ranks=2, rank=1)
    return judge(spec, KINDS[kind], replace(outcome, **changes), BITS)


def test_a_job_that_ends_as_it_should_is_right() -> None:
    assert wrong("thread_raises", ENDED) == []
    assert wrong("rank_is_killed", FAILED) == []
    assert wrong("rank_is_killed", ENDED) == []  # the signal came too late
    assert wrong("launcher_is_interrupted_and_saves", FAILED, code=130) == []
    assert list(judge_resumed(Spec("raises", ranks=2), ENDED, BITS)) == []


@pytest.mark.parametrize(
    ("kind", "outcome", "changes", "said"),
    [
        ("thread_raises", ENDED, {"code": None}, "the launcher still runs"),
        ("thread_raises", ENDED, {"seconds": 31.0}, "took 31 s to end, wanted 30 s"),
        ("thread_raises", ENDED, {"out": "done 0\n"}, "exit code 0, but not all ranks have finished"),
        ("thread_raises", ENDED, {"code": 1}, "it should have gone on, and ended with exit code 1"),
        ("thread_raises", ENDED, {"out": OUT.replace("a fin", "b fin")}, "finished with bits 0000000b finite"),
        ("thread_raises", ENDED, {"out": OUT.replace(" fin", " not-fin")}, "values that are not finite"),
        ("thread_raises", ENDED, {"processes": {9: "sleep"}}, "processes are left: {9: 'sleep'}"),
        ("thread_raises", ENDED, {"shared": ["x"]}, "files are left in /dev/shm: ['x']"),
        ("thread_raises", ENDED, {"temporary": ["a/x"]}, "files are left in the temporary folder: ['a/x']"),
        ("thread_raises", ENDED, {"checkpoint": ["m.part"]}, "left drafts: ['m.part']"),
        ("raises", ENDED, {}, "the exit code is 0, wanted (1,)"),
        ("rank_is_killed", FAILED, {"code": 1}, "the exit code is 1, wanted (137,)"),
        ("rank_is_killed", FAILED, {"err": "rank 0 on x"}, "rank 1 failed and is not named"),
        ("launcher_is_interrupted_and_saves", FAILED, {"checkpoint": []}, "nothing was saved"),
        ("folder_is_removed", FAILED, {"err": ""}, "it failed without a word"),
        ("launcher_is_killed", FAILED, {"code": -9, "shared": ["x"]}, "files are left in /dev/shm: ['x']"),
    ],
)
def test_what_is_wrong_is_said(kind: str, outcome: Outcome, changes: dict[str, Any], said: str) -> None:
    assert any(said in each for each in wrong(kind, outcome, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": 1}, "ended with exit code 1"),
        ({"code": None}, "did not end"),
        ({"out": "done 0\n"}, "ended with exit code 0"),
        ({"out": OUT.replace("a fin", "b fin")}, "has bits 0000000b finite, an unbroken run has 0000000a finite"),
        ({"processes": {9: "sleep"}}, "leaves processes"),
    ],
)
def test_what_is_wrong_with_the_job_that_goes_on_is_said(changes: dict[str, Any], said: str) -> None:
    told = list(judge_resumed(Spec("raises", ranks=2), replace(ENDED, **changes), BITS))
    assert len(told) == 1
    assert said in told[0]
