"""The checkpoints of a run in its folder: opened before it begins, written while all workers stand still.

All processes learn what one of them finds, so that all go on, or raise, alike.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.requests import AllReduce
from loosestep.runtime.checkpoint.folder import Folder, drawn
from loosestep.runtime.checkpoint.resize import merged, rejoin_worker, report_resize
from loosestep.runtime.checkpoint.resume_point import choose, refuse
from loosestep.runtime.checkpoint.state import restore_worker, save_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike

    from loosestep.requests import Request
    from loosestep.runtime.checkpoint.folder import Facts
    from loosestep.runtime.program import Program
    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Session
    from loosestep.transports.metered import Meter


class CheckpointManager:
    """Opens, restores and writes the checkpoints of a run for one process."""

    def __init__(
        self,
        path: str | PathLike[str],
        signature: Facts,
        session: Session,
        meters: Sequence[Meter],
        *,
        resume: bool,
        keep: int,
    ) -> None:
        self.session, self.meters, self.asked = session, meters, 0
        self.apart = len(session.ranks) < signature["workers"]  # workers live in several processes
        self.written: dict[int, list[int]] = {}  # by rank: size and checksum of the part
        self.failed: dict[int, list[Any]] = {}  # by rank: what its save came to
        self.dropped, self.dropping = set[int](), threading.Lock()
        self.all_written = session.all_gather_object("written", lambda: sorted(self.written.items()))
        self.all_failed = session.all_gather_object("not written", lambda: sorted(self.failed.items()))
        self.folder = self.open(path, signature, resume, keep)

    def open(self, path: str | PathLike[str], signature: Facts, resume: bool, keep: int) -> Folder:
        """Return the folder, after making sure that every process can write to it and no other job does."""
        messages = ""
        folder = Folder(path, signature, resume=resume, keep=keep)
        try:
            folder.probe(self.session.ranks[0], "nothing was trained yet: ")
            if 0 in self.session.ranks:
                folder.lock(alone=True)
                if not resume:  # the job that held the lock may have ended since
                    folder.check_own()
        except (CheckpointError, ValueError) as error:
            messages = str(error)
        answers = self.ask([messages, drawn()])
        try:
            self.refuse([message for message, _ in answers])
        except CheckpointError:
            folder.close()
            raise
        self.run = answers[0][1]
        return folder

    def ask(self, mine: Any) -> list[Any]:
        """Give this process's answer to all processes, and return the answers of all."""
        self.asked += 1
        return self.session.all_gather_object(f"checkpoint {self.asked}", lambda: mine)()

    def refuse(self, messages: Sequence[str]) -> None:
        """Raise in all processes the error that any of them has found."""
        several = len(messages) > 1
        refuse([f"worker {rank}: {each}" if each and several else each for rank, each in enumerate(messages)])

    def close(self) -> None:
        """Release the folder at the end of the run."""
        self.folder.close()

    # --- going on ----------------------------------------------------------------------------------------

    def restore(self, programs: Sequence[Program], strategy: Strategy) -> Facts | None:
        """Restore every worker; return what the checkpoint keeps of the run, or None if there is none."""
        found = choose(self.folder, self.session.ranks, self.ask)
        self.folder.begin(self.run)
        if found is None:
            return None
        others = found.workers != self.folder.signature["workers"]
        parts = merged(self.folder, strategy) if others else None
        if parts and 0 in self.session.ranks:
            report_resize(self.folder, strategy, self.folder.signature["workers"])
        for program in programs:
            meter = self.meters[program.worker.rank]
            if parts:
                rejoin_worker(self.folder, parts, program, meter, self.session)
            else:
                restore_worker(self.folder, program, meter, self.session)
        return found.facts

    # --- writing -----------------------------------------------------------------------------------------

    def save(self, program: Program, step: int) -> Generator[Request, None, bool]:
        """Write one worker's part; return whether that failed."""
        rank = program.worker.rank
        try:
            written = yield from save_worker(self.folder, program, self.meters[rank], self.session, step)
        except CheckpointError as error:
            self.failed[rank] = ["", str(error)]
        except Diverged as error:
            self.failed[rank] = [error.what, step]
        else:
            self.written[rank] = list(written)
        return rank in self.failed

    def commit(
        self, program: Program, step: int, failed: bool, first: bool, facts: Callable[[], Facts]
    ) -> Iterator[Request]:
        """Make the checkpoint count if all parts were written, else raise on all workers.

        first: this worker acts for its process. Workers of one process need not wait for each other: an error of
        one ends them all.
        """
        if failed:
            if 0 in self.session.ranks:
                self.drop(step)
            yield from self.fail()
        board = np.zeros(1)
        if first and 0 in self.session.ranks:
            parts = dict(pair for pairs in self.all_written() for pair in pairs)
            try:
                self.folder.commit(step, [parts[rank] for rank in range(program.worker.size)], facts())
            except CheckpointError as error:
                self.failed[0] = ["", str(error)]
                board[0] = 1
        if self.apart:
            yield AllReduce(board, op="max")
        if board[0]:
            yield from self.fail()
        if first and 0 not in self.session.ranks:
            self.folder.follow(step)

    def drop(self, step: int) -> None:
        """Remove what was written of a checkpoint that failed: by the first worker here, which ends the others."""
        with self.dropping:
            if step not in self.dropped:
                self.dropped.add(step)
                self.folder.drop(step)

    def fail(self) -> Iterator[Request]:
        """Raise on all workers the error of the first that failed."""
        answers = self.all_failed()
        if self.apart:
            yield AllReduce(np.zeros(1), op="max")  # every process has read the answers before one leaves
        rank, (what, message) = min(pair for pairs in answers for pair in pairs)
        if what:
            raise Diverged(rank, message, what=what)
        raise CheckpointError(f"worker {rank}: {message}" if len(answers) > 1 else message)
