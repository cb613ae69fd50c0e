"""Signals to ranks, their guards, mpiexec and the launcher: killed, stopped, ended, interrupted."""

from __future__ import annotations

import os
import time
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, signal
from threading import Timer
from typing import Any

from tests.chaos.kind import EITHER, FAILS, STOPS, SURVIVES, in_rank, outside
from tests.mpi.jobs import parent

ONLY_WHEN_ASKED = {"every": 100_000}  # steps: the checkpoint that there is was written for the signal
NEVER_MEETING = {"every": 100_000, "steps": 100_000}  # but for what the strategy itself asks


# --- ranks -------------------------------------------------------------------------------------------------


@outside(FAILS, codes=(137,))
def rank_is_killed(trial: Any) -> None:
    trial.signal(trial.rank, SIGKILL)


@outside(FAILS, codes=(137,))
def two_ranks_are_killed(trial: Any) -> None:
    trial.signal(trial.rank, SIGKILL)
    time.sleep(trial.random.random() * 0.3)
    trial.signal((trial.rank + 1) % trial.spec.ranks, SIGKILL)


@outside(SURVIVES)
def rank_is_stopped_for_a_moment(trial: Any) -> None:
    trial.signal(trial.rank, SIGSTOP)
    time.sleep(trial.random.uniform(0.2, 3.5))
    trial.signal(trial.rank, SIGCONT)


@outside(FAILS)
def rank_is_stopped_for_long(trial: Any) -> None:
    """Stop longer than the heartbeat timeout; then come back."""
    trial.signal(trial.rank, SIGSTOP)
    Timer(18, trial.signal, (trial.rank, SIGCONT)).start()


@outside(FAILS)
def rank_is_stopped_for_ever(trial: Any) -> None:
    trial.signal(trial.rank, SIGSTOP)


@outside(FAILS)
def rank_is_terminated(trial: Any) -> None:
    trial.signal(trial.rank, SIGTERM)


@outside(STOPS)
def rank_is_interrupted(trial: Any) -> None:
    trial.signal(trial.rank, SIGINT)


# --- who starts them ---------------------------------------------------------------------------------------


@outside(EITHER, hosts=False)
def guard_is_killed(trial: Any) -> None:
    """Its rank goes with it; nobody is left to say how."""
    trial.kill(trial.parent(trial.pids[trial.rank]), SIGKILL)


@outside(FAILS, named=False, codes=(-9,))
def launcher_is_killed(trial: Any) -> None:
    trial.kill(trial.job.process.pid, SIGKILL)


@outside(FAILS, named=False, codes=(137,))
def mpiexec_is_killed(trial: Any) -> None:
    trial.kill(trial.mpiexec(), SIGKILL)


@outside(EITHER, within=60, deadline=40)
def mpiexec_is_stopped(trial: Any) -> None:
    """The job may end well without it; the launcher's own deadline ends the rest."""
    trial.kill(trial.mpiexec(), SIGSTOP)


# --- the user ----------------------------------------------------------------------------------------------


@outside(STOPS)
def launcher_is_interrupted(trial: Any) -> None:
    """Ctrl-C."""
    trial.kill(trial.job.process.pid, SIGINT)


@outside(STOPS, loops=("library",), settings=ONLY_WHEN_ASKED, saved=True)
def launcher_is_interrupted_and_saves(trial: Any) -> None:
    trial.kill(trial.job.process.pid, SIGINT)


@outside(STOPS)
def launcher_is_interrupted_twice(trial: Any) -> None:
    trial.kill(trial.job.process.pid, SIGINT)
    time.sleep(trial.random.random() * 0.5)
    trial.kill(trial.job.process.pid, SIGINT)


@outside(STOPS)
def launcher_is_terminated(trial: Any) -> None:
    trial.kill(trial.job.process.pid, SIGTERM)


@outside(STOPS, loops=("library",), settings=ONLY_WHEN_ASKED, saved=True)
def launcher_is_terminated_and_saves(trial: Any) -> None:
    """SIGTERM, of which a cluster gives a minute's notice, saves as Ctrl-C does."""
    trial.kill(trial.job.process.pid, SIGTERM)


@outside(STOPS)
def interrupted_while_a_rank_dies(trial: Any) -> None:
    """Within the few milliseconds in which all agree where to stop."""
    trial.kill(trial.job.process.pid, SIGINT)
    time.sleep(trial.random.random() * 0.03)
    trial.signal(trial.rank, SIGKILL)


@outside(FAILS, settings=NEVER_MEETING, resumes=False)
def interrupted_while_a_rank_is_stopped(trial: Any) -> None:
    """It cannot say where it is, and all others wait to hear it."""
    trial.signal(trial.rank, SIGSTOP)
    time.sleep(trial.random.random() * 0.05)
    trial.kill(trial.job.process.pid, SIGINT)


@outside(FAILS, settings=NEVER_MEETING, codes=(137,), resumes=False)
def rank_dies_while_others_halt(trial: Any) -> None:
    """It is asked where it is, does not answer, and dies."""
    trial.signal(trial.rank, SIGSTOP)
    time.sleep(0.2)
    trial.kill(trial.job.process.pid, SIGINT)
    time.sleep(1)
    trial.signal(trial.rank, SIGKILL)


@in_rank(FAILS, settings=NEVER_MEETING, codes=(137,), resumes=False)
def dies_when_interrupted(place: Any) -> None:
    """The user presses Ctrl-C, and this rank dies of it while the others ask it where it is."""
    signal(SIGINT, lambda *_: os.kill(os.getpid(), SIGKILL))
    guard = os.getppid()
    os.kill(parent(parent(guard)), SIGINT)
