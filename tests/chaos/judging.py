"""What must hold of a job to which a fault happened, and of the one that goes on from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from tests.chaos.kind import EITHER, FAILS, STOPS, SURVIVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.kind import Kind
    from tests.chaos.spec import Spec

OPEN_MPIS = ("sm_segment.*", "prte.*", "pmix*", "ompi.*")
"""Of Open MPI itself: it cannot remove these where its mpiexec was killed, or its launcher with it."""
ENDED_BY_FORCE = ("launcher_is_killed", "mpiexec_is_killed", "mpiexec_is_stopped")


@dataclass(frozen=True)
class Outcome:
    """How a job ended, and what it left."""

    code: int | None  # None: it did not
    seconds: float
    out: str
    err: str
    processes: dict[int, str]
    shared: list[str]  # files in /dev/shm
    temporary: list[str]  # ... and in its temporary folder
    checkpoint: list[str]

    def finished(self, ranks: int) -> bool:
        """Whether all ranks came to the end of their script."""
        return len(re.findall(r"^done \d+$", self.out, re.MULTILINE)) == ranks

    @property
    def bits(self) -> str:
        """What the run came to, where it said so."""
        told = re.search(r"^bits (\w+ [\w-]+)$", self.out, re.MULTILINE)
        return told[1] if told else ""

    def names(self, rank: int) -> bool:
        """Whether it says that this rank failed."""
        return re.search(rf"\b(rank|worker) {rank}\b", self.err) is not None

    def told(self) -> dict[str, Any]:
        """For who reads the trial."""
        end = {"code": self.code, "seconds": round(self.seconds, 1), "checkpoint": self.checkpoint}
        return {**end, "out": self.out[-600:], "err": self.err[-3000:]}


def judge(spec: Spec, kind: Kind, outcome: Outcome, bits: str) -> list[str]:
    """Everything that is wrong with how a job ended; `bits` of an unbroken run where they must be the same."""
    wrong = [*judge_end(spec, kind, outcome), *judge_rest(kind, outcome)]
    if outcome.bits and bits and outcome.bits != bits:
        wrong.append(f"finished with bits {outcome.bits}, an unbroken run has {bits}")
    if outcome.bits.endswith("not-finite"):
        wrong.append("finished without a word, with values that are not finite")
    return wrong


def judge_end(spec: Spec, kind: Kind, outcome: Outcome) -> Iterator[str]:
    """When it ended, with which exit code, and what it said."""
    code, finished = outcome.code, outcome.finished(spec.ranks)
    if code is None:
        yield f"the launcher still runs after {outcome.seconds:.0f} s"
        return
    if outcome.seconds > kind.within:
        yield f"the launcher took {outcome.seconds:.0f} s to end, wanted {kind.within:.0f} s at most"
    if code == 0 and not finished and not kind.unread:
        yield "exit code 0, but not all ranks have finished"
    if kind.ends == SURVIVES and (code != 0 or not finished):
        yield f"it should have gone on, and ended with exit code {code}"
    too_late = kind.when == "outside" and finished and code == 0
    if kind.ends == FAILS and not too_late:
        if code == 0 or (kind.codes and code not in kind.codes):
            yield f"a rank failed, and the exit code is {code}, wanted {kind.codes or 'any but 0'}"
        if kind.named and not outcome.names(spec.rank):
            yield f"rank {spec.rank} failed and is not named"
    if kind.ends == STOPS and kind.saved and code and "manifest.json" not in outcome.checkpoint:
        yield "nothing was saved when it was told to stop"
    if kind.ends == EITHER and code and not outcome.err:
        yield "it failed without a word"


def judge_rest(kind: Kind, outcome: Outcome) -> Iterator[str]:
    """What must not be left."""
    if outcome.code is None:
        return  # all of it is, and that has been said
    if outcome.processes:
        yield f"processes are left: {outcome.processes}"
    borne = OPEN_MPIS if kind.name in ENDED_BY_FORCE else ()
    for what, names in (("/dev/shm", outcome.shared), ("the temporary folder", outcome.temporary)):
        kept = [name for name in names if not any(fnmatch(name.split("/")[0], each) for each in borne)]
        if kept:
            yield f"files are left in {what}: {kept[:5]}"
    drafts = [name for name in outcome.checkpoint if name.endswith(".part")]
    if drafts and outcome.code == 0:
        yield f"a job that ended well left drafts: {drafts}"


def judge_resumed(spec: Spec, outcome: Outcome, bits: str) -> Iterator[str]:
    """The same job again, from the folder that was left."""
    if outcome.code != 0 or not outcome.finished(spec.ranks):
        end = "did not end" if outcome.code is None else f"ended with exit code {outcome.code}"
        yield f"the job that goes on {end}: {outcome.err[-1500:]}"
    elif bits and outcome.bits != bits:
        yield f"the job that goes on has bits {outcome.bits}, an unbroken run has {bits}"
    elif not outcome.bits.endswith(" finite"):
        yield f"the job that goes on has {outcome.bits or 'no result'}"
    if outcome.processes:
        yield f"the job that goes on leaves processes: {outcome.processes}"
