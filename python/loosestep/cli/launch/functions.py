"""Runs a function in N processes that are joined by ZeroMQ: for notebooks and scripts that need no launcher."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import secrets
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, TypeVar

from loosestep.cli.launch import guard
from loosestep.cli.launch.mpiexec import ONE_THREAD
from loosestep.foundation import checks
from loosestep.foundation.errors import PeerFailed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Answer = TypeVar("Answer")
LINGER = 60.0  # seconds for the other ranks after one failed: to notice, to say so and to save
EARLY = 5.0  # ... after one failed before its run had begun, of which they do not hear
GRACE = 2.0  # seconds from SIGTERM to SIGKILL


def launch(function: Callable[..., Answer], n: int, *args: Any) -> list[Answer]:
    """Call `function(*args)` in n new processes, and return their results by rank.

    In them `on=` means ZMQ() where it is left out: `run` and `parallel` join them as ranks 0 .. n - 1. The
    function, its arguments and its results are pickled, by cloudpickle if that is installed; else the function
    must be one that can be imported, which one of a notebook cannot. Scripts call this below
    `if __name__ == "__main__":`.
    After Ctrl-C the ranks have a minute to finish their step and save; a second one ends them at once.

    Raises what the first rank that failed has raised, with its rank and traceback as a note; KeyboardInterrupt
    after Ctrl-C, unless all ranks return nevertheless.

    >>> import loosestep as ls
    >>> ls.launch(print, 0)
    Traceback (most recent call last):
    ...
    ValueError: n must be at least 1, got 0
    """
    checks.callable_("function", function)
    n = checks.integer("n", n)
    if importlib.util.find_spec("zmq") is None:
        raise ImportError("launch() needs pyzmq: pip install 'loosestep[zmq]'")
    if importlib.util.find_spec("cloudpickle") is None:
        check_importable(function)
    content = pickled((function, args))
    with tempfile.TemporaryDirectory(prefix="loosestep-launch.") as folder:
        told = {"LOOSESTEP_ADDRESS": f"ipc://{folder}/meet", "LOOSESTEP_KEY": secrets.token_urlsafe(32)}
        with Ranks(content, n, {**told, "LOOSESTEP_RANKS": str(n)}, folder) as ranks:
            return ranks.results()


def pickled(what: Any) -> bytes:
    """Return a value as bytes."""
    if importlib.util.find_spec("cloudpickle") is not None:
        import cloudpickle

        content: bytes = cloudpickle.dumps(what)
        return content
    return pickle.dumps(what)


def check_importable(function: Any) -> None:
    """Refuse a function that other processes could not import, where nothing else can carry it to them."""
    here = sys.modules["__main__"]
    if getattr(function, "__module__", "") == "__main__" and not hasattr(here, "__file__"):
        raise ValueError("a function of a notebook cannot be imported by other processes: pip install cloudpickle")


@contextmanager
def environment(told: Mapping[str, str]) -> Iterator[None]:
    """Let processes that are started meanwhile have these variables."""
    before = dict(os.environ)
    os.environ.update({name: "1" for name in ONE_THREAD if name not in before} | dict(told))
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


class Ranks:
    """The processes, from their start to their end."""

    def __init__(self, content: bytes, n: int, told: Mapping[str, str], folder: str) -> None:
        self.folder = folder
        self.answers: dict[int, Any] = {}
        self.errors: dict[int, BaseException] = {}  # in the order in which they came
        self.until = float("inf")
        self.interrupted = False
        self.waiting: dict[int, Connection] = {}
        context, parent = multiprocessing.get_context("spawn"), os.getpid()
        self.processes = []
        for rank in range(n):
            near, far = context.Pipe(duplex=False)
            mine = {**told, "LOOSESTEP_RANK": str(rank), guard.BEGUN: self.record(rank)}
            process = context.Process(target=work, args=(content, far, parent), name=f"loosestep rank {rank}")
            with environment(mine):
                process.start()
            far.close()
            self.processes.append(process)
            self.waiting[rank] = near

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever is left."""
        for process in self.processes:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()

    def record(self, rank: int) -> str:
        """Return the file in which a rank says that its run has begun."""
        return os.path.join(self.folder, f"rank-{rank}")

    def results(self) -> list[Any]:
        """Wait for all, and return their results, or raise the first failure."""
        while self.waiting and time.monotonic() < self.until:
            try:
                self.hear()
            except KeyboardInterrupt:
                if self.interrupted:
                    raise
                self.interrupted = True
                self.until = min(self.until, time.monotonic() + LINGER)
                for process in self.processes:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid or 0, signal.SIGINT)
        if self.errors:
            raise min(self.errors.values(), key=follows)
        if self.waiting:
            words = ", ".join(map(str, self.waiting))
            raise KeyboardInterrupt(f"ended by force {LINGER:.0f} s after Ctrl-C: rank {words}")
        return [self.answers[rank] for rank in range(len(self.processes))]

    def hear(self) -> None:
        """Note what has come within a moment."""
        for ready in wait(list(self.waiting.values()), 0.1):
            rank = next(rank for rank, pipe in self.waiting.items() if pipe is ready)
            pipe = self.waiting.pop(rank)
            try:
                good, content = pipe.recv()
                found = pickle.loads(content)
            except EOFError:
                good, found = False, self.died(rank)
            pipe.close()
            if good:
                self.answers[rank] = found
            else:
                self.fail(rank, found)

    def died(self, rank: int) -> BaseException:
        """Return an error for a process that has ended without a word."""
        process = self.processes[rank]
        process.join(GRACE)
        code = process.exitcode or 0
        killed = f"killed by signal {-code} ({signal.strsignal(-code)})"
        return PeerFailed(rank, killed if code < 0 else f"it ended with exit code {code}")

    def fail(self, rank: int, error: BaseException) -> None:
        """Note a failure; the others have a while to notice it."""
        self.errors[rank] = error
        begun = os.path.exists(self.record(rank))
        self.until = min(self.until, time.monotonic() + (LINGER if begun else EARLY))


def work(content: bytes, answer: Connection, parent: int) -> None:
    """Call the function in a new process, and send what it returns or raises."""
    os.setpgid(0, 0)  # Ctrl-C at the terminal reaches this process once, from its parent
    guard.die_with(parent)
    try:
        function, args = pickle.loads(content)
        good, said = True, pickled(function(*args))
    except BaseException as error:
        good, said = False, failure(error)
    answer.send((good, said))
    answer.close()


def follows(error: BaseException) -> bool:
    """Return whether a rank has raised this because another one failed, or was asked to end."""
    heard = isinstance(error, (PeerFailed, TimedOut)) and hasattr(error, "__notes__")
    return heard or isinstance(error, KeyboardInterrupt)


def failure(error: BaseException) -> bytes:
    """Return an error as bytes, with a note of where it was raised; as its text where it cannot be pickled."""
    told = "".join(traceback.format_exception(error))
    note = f"in rank {os.environ['LOOSESTEP_RANK']} of loosestep.launch:\n{told}"
    error.add_note(note)
    try:
        content = pickled(error)
        pickle.loads(content)
    except Exception:
        asked = isinstance(error, KeyboardInterrupt)  # such as `Interrupted`, which holds the whole result
        other = KeyboardInterrupt(str(error)) if asked else RuntimeError(f"{type(error).__name__}: {error}")
        other.add_note(note)
        content = pickled(other)
    return content
