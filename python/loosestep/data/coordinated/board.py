"""What the jobs of one host share: prepared batches in a bounded staging area, and how far each job is.

Batches are numbered through all epochs. Batch n lies in slot n % slots; it may be put there when every job that
still takes part has taken batch n - slots. Job n % jobs prepares it, or, if that one has ended, one that waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loosestep.data.shared_memory.segment import Segment
from loosestep.foundation import units
from loosestep.foundation.errors import LoosestepError

MAGIC = 0x6C6F6F7365303032
ABSENT, HERE, LEFT, DEAD, EXPELLED = range(5)
WORDS = ("has not come", "takes part", "has left", "has ended", "was left out, for others waited too long for it")
STATE, NEXT, PID, PREPARER = range(4)  # columns of the jobs
NUMBER, LENGTH = range(2)  # columns of the slots
FACTS = 8  # magic, jobs, slots, bytes of a slot, batches, batches prepared, shares taken over, what is prepared
PREPARED, TAKEN_OVER, WHAT = 5, 6, 7
PAGE = 4096
SHORTEST, LONGEST, LOOK = 0.0002, 0.005, 0.1  # seconds between looks at a slot, and at who lives
LOCK = 30.0
Blame = tuple[int, tuple[tuple[int, int], ...]]
"""What is waited for (ABSENT, NEXT or PREPARER), and from which jobs, each with a number that shows work."""


class LeftOut(LoosestepError):
    """Other jobs have gone on without this one, since they waited too long for it."""


class Closed(Exception):
    """The loader was closed while a thread of it waited."""


@dataclass(frozen=True)
class PrepStats:
    """What jobs have prepared together.

    prepared: batches that were put into the staging area, by all jobs. taken_over: shares of jobs that ended.
    """

    prepared: int
    taken_over: int


class Board:
    """One job's look at what is shared. Times are those of `clock`; `deadline` is for others, not for itself."""

    def __init__(
        self,
        segment: Segment,
        job: int,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.segment, self.job, self.deadline, self.clock, self.sleep = segment, job, deadline, clock, sleep
        self.facts = np.frombuffer(segment.memory, np.int64, FACTS)
        self.count, self.slots, self.slot_bytes, self.total = (int(fact) for fact in self.facts[1:5])
        sizes = (self.count * 4, self.slots * 2)
        starts = (FACTS * 8, (FACTS + sizes[0]) * 8)
        jobs, slots = (np.frombuffer(segment.memory, np.int64, *part) for part in zip(sizes, starts, strict=True))
        self.jobs, self.staged = jobs.reshape(-1, 4), slots.reshape(-1, 2)
        self.start = tables(self.count, self.slots)
        self.closed = False

    @staticmethod
    def make(jobs: int, slots: int, slot_bytes: int, total: int, what: int = 0) -> Segment:
        """Return memory for so many jobs and slots, all of it reserved. Raises MemoryError if there is none."""
        start = tables(jobs, slots)
        segment = Segment.make(start + slots * slot_bytes, "loosestep-staging")
        segment.reserve(0, start + slots * slot_bytes)
        facts = np.frombuffer(segment.memory, np.int64, FACTS)
        facts[1:5] = jobs, slots, slot_bytes, total
        facts[WHAT] = what
        board = Board(segment, 0, 1.0)
        board.jobs[:, PREPARER] = np.arange(jobs)
        board.staged[:, NUMBER] = -1
        segment.fence()
        facts[0] = MAGIC
        return segment

    def check(self, *mine: int) -> None:
        """Raise ValueError if other jobs want something else than what `make` would be given here."""
        there = (self.count, self.slots, self.slot_bytes, self.total, int(self.facts[WHAT]))
        names = (
            "jobs",
            "slots",
            "bytes of a slot",
            "batches of all epochs",
            "as a digest of samples, batch and seed",
        )
        wrong = [f"{b} {name} (others: {a})" for name, a, b in zip(names, there, mine, strict=True) if a != b]
        if wrong:
            raise ValueError(f"job {self.job} differs from the others of this name: {', '.join(wrong)}")

    # --- who takes part

    def attend(self) -> None:
        """Take part. Raises ValueError if there is or was such a job."""
        with self.segment.locked(LOCK):
            state = int(self.jobs[self.job, STATE])
            if state != ABSENT or not self.segment.claim(1 + self.job):
                words = WORDS[max(state, HERE)]
                raise ValueError(f"job {self.job} of this name {words} already: give job= another number")
            self.jobs[self.job, PID] = os.getpid()
            self.jobs[self.job, STATE] = HERE

    def leave(self) -> None:
        """Take part no more; what this job was to prepare is taken over by those that wait for it."""
        self.closed = True
        with self.segment.locked(LOCK):
            if self.jobs[self.job, STATE] == HERE:
                self.jobs[self.job, STATE] = LEFT

    def wait_for_all(self) -> None:
        """Wait until every job has come. Raises TimeoutError, which names those that have not."""
        self._wait(lambda: not (self.jobs[:, STATE] == ABSENT).any(), self._absent)

    def _absent(self) -> Blame:
        return ABSENT, tuple((int(job), 0) for job in np.flatnonzero(self.jobs[:, STATE] == ABSENT))

    def bury(self) -> None:
        """Note which jobs have ended without saying so: the kernel has freed their locks."""
        for job in np.flatnonzero(self.jobs[:, STATE] == HERE):
            mine = self.jobs[job, PID] == os.getpid()
            if not mine and not self.segment.is_held(1 + int(job)):
                self._end(int(job), DEAD)

    def _end(self, job: int, state: int) -> None:
        with self.segment.locked(LOCK):
            if self.jobs[job, STATE] == HERE:
                self.jobs[job, STATE] = state

    def check_own_state(self) -> None:
        """Raise LeftOut if others have gone on without this job."""
        if self.jobs[self.job, STATE] == EXPELLED:
            raise LeftOut(
                f"job {self.job} showed no sign of life for {self.deadline:g} s, so the other jobs have gone on "
                "without it: give a longer deadline if it has so much else to do"
            )

    @property
    def low(self) -> int:
        """The number of the first batch that a job still has to take."""
        following = self.jobs[self.jobs[:, STATE] <= HERE, NEXT]
        return int(following.min()) if len(following) else self.total

    # --- who prepares

    def shares(self) -> list[int]:
        """Return the jobs whose share this one prepares: its own, and those that it has taken over."""
        return [int(job) for job in np.flatnonzero(self.jobs[:, PREPARER] == self.job)]

    def take_over(self, number: int) -> bool:
        """Become the preparer of a batch that nobody prepares; return whether this job is it."""
        share = number % self.count
        if self._is_prepared_by_a_job_that_is_here(share):
            return bool(self.jobs[share, PREPARER] == self.job)
        with self.segment.locked(LOCK):
            if not self._is_prepared_by_a_job_that_is_here(share):
                self.jobs[share, PREPARER] = self.job
                self.facts[TAKEN_OVER] += 1
        return bool(self.jobs[share, PREPARER] == self.job)

    def _is_prepared_by_a_job_that_is_here(self, share: int) -> bool:
        return bool(self.jobs[self.jobs[share, PREPARER], STATE] <= HERE)

    # --- batches

    def is_staged(self, number: int) -> bool:
        """Return whether a batch is there, or has been."""
        return bool(self.staged[number % self.slots, NUMBER] >= number)

    def stage(self, number: int, content: bytes) -> None:
        """Put a batch into its slot as soon as all have taken the one before; nothing if it was put there already.

        Raises ValueError for one that is larger than a slot.
        """
        if len(content) > self.slot_bytes:
            takes = units.size(len(content))
            raise ValueError(
                f"batch {number} takes {takes}, and a slot holds {units.size(self.slot_bytes)}; "
                f"give capacity= at least {self.slots * len(content)}, or fewer slots"
            )
        slot = number % self.slots
        self._wait(lambda: self.low > number - self.slots, lambda: self._slow(number - self.slots))
        with self.segment.locked(LOCK):
            self.check_own_state()
            if self.is_staged(number):
                return
            at = self.start + slot * self.slot_bytes
            self.segment.view[at : at + len(content)] = content
            self.staged[slot, LENGTH] = len(content)
            self.facts[PREPARED] += 1
            self.segment.fence()
            self.staged[slot, NUMBER] = number

    def take(self, number: int, meanwhile: Callable[[], object]) -> bytes:
        """Return a batch when it is there. `meanwhile` is called now and then until it is."""
        slot = number % self.slots
        self._wait(lambda: self.is_staged(number), lambda: self._late(number), meanwhile)
        at = self.start + slot * self.slot_bytes
        content = bytes(self.segment.view[at : at + int(self.staged[slot, LENGTH])])
        self.segment.fence()
        self.check_own_state()  # or the slot may hold another batch by now
        self.jobs[self.job, NEXT] = number + 1
        return content

    def skip_to(self, number: int) -> None:
        """Take no batch before that one: a loop may have been left in the middle of an epoch."""
        self.jobs[self.job, NEXT] = max(number, int(self.jobs[self.job, NEXT]))

    def stats(self) -> PrepStats:
        """Return what all jobs have done."""
        return PrepStats(int(self.facts[PREPARED]), int(self.facts[TAKEN_OVER]))

    # --- waiting

    def _wait(
        self, ready: Callable[[], bool], blame: Callable[[], Blame], meanwhile: Callable[[], object] = int
    ) -> None:
        """Wait, and look now and then who still lives. Give up those that are to blame for a whole deadline."""
        now = looked = self.clock()
        until, nap, blamed = now + self.deadline, SHORTEST, blame()
        while not ready():
            if self.closed:
                raise Closed
            self.check_own_state()
            if now - looked >= LOOK:
                looked = now
                self.bury()
            meanwhile()
            if (late := blame()) != blamed:  # somebody else, or with another batch
                until, blamed = now + self.deadline, late
            if now > until:
                self._give_up(*blamed)
            self.sleep(nap)
            nap = min(1.5 * nap, LONGEST)
            now = self.clock()

    def _slow(self, number: int) -> Blame:
        """Return who has not taken a batch that others have taken, and how far each is."""
        slow = np.flatnonzero((self.jobs[:, STATE] == HERE) & (self.jobs[:, NEXT] <= number))
        return NEXT, tuple((int(job), int(self.jobs[job, NEXT])) for job in slow)

    def _late(self, number: int) -> Blame:
        """Return who has not got a batch ready, or keeps its slot occupied."""
        if self.low <= number - self.slots:
            return self._slow(number - self.slots)
        return PREPARER, ((int(self.jobs[number % self.count, PREPARER]), number),)

    def _give_up(self, what: int, jobs: tuple[tuple[int, int], ...]) -> None:
        """Go on without jobs, unless this one is among them.

        Raises TimeoutError for jobs that have not come, and for a batch that this one does not get ready.
        """
        names = ", ".join(str(job) for job, _ in jobs)
        if what == ABSENT:
            raise TimeoutError(
                f"job {self.job} has waited {self.deadline:g} s for jobs that have not come: {names}; start as "
                f"many as jobs={self.count} says, with the same name"
            )
        if self.job not in dict(jobs):
            for job, _ in jobs:
                self._end(job, EXPELLED)
        elif what == PREPARER:
            raise TimeoutError(
                f"job {self.job} has prepared batch {jobs[0][1]} for {self.deadline:g} s and is not ready: its "
                "data set hangs, or the deadline is too short"
            )


def tables(jobs: int, slots: int) -> int:
    """Return the bytes before the first slot."""
    return -(-(FACTS + 4 * jobs + 2 * slots) * 8 // PAGE) * PAGE
