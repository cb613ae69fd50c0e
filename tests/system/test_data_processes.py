"""Caches and coordinated preparation between real processes: killed, stopped, interrupted. Most are slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.data_processes import EPOCHS, JOBS, ROWS

SCRIPT = Path(__file__).with_name("data_processes.py")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process; all are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(what: str, name: str, number: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), what, f"{name}-{os.getpid()}", str(number), str(tmp_path)]
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, text=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said, process.stderr.read() if process.stderr else ""
    return said


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_of_a_name_read_each_sample_once_though_one_is_killed_with_the_lock(
    start: Start, tmp_path: Path
) -> None:
    holder = start("hold", "killed", 3)
    assert line(holder) == "held"
    readers = [start("read", "killed", number) for number in range(2)]
    for reader in readers:
        assert line(reader) == "open"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    for reader in readers:
        go_on(reader)
    told = [line(reader) for reader in readers]
    reads = Counter((tmp_path / "reads").read_text().split())
    assert sorted(map(int, reads)) == list(range(ROWS))
    hits, misses, stored = map(int, max(told, key=lambda words: sum(map(int, words.split()))).split())
    assert stored == ROWS
    assert misses == sum(reads.values())  # both readers may miss a sample at once
    assert hits + misses == 2 * EPOCHS * ROWS + 1  # the killed one's count is kept
    assert misses <= 2 * ROWS + 1


@pytest.mark.slow
def test_a_stopped_process_with_the_lock_holds_nobody_up_for_long(start: Start) -> None:
    holder = start("hold", "stopped", 3)
    assert line(holder) == "held"
    reader = start("read", "stopped", 0)
    assert line(reader) == "open"
    holder.send_signal(signal.SIGSTOP)
    go_on(reader)
    hits, misses, stored = map(int, line(reader).split())
    assert (hits, misses, stored) == (EPOCHS, EPOCHS * (ROWS - 1) + 1, 1)
    go_on(reader)
    assert "is not kept: another process of this host has held a lock" in reader.communicate(timeout=60)[1]


@pytest.mark.slow
def test_ctrl_c_in_the_process_with_the_lock_frees_it_and_the_name(start: Start) -> None:
    holder = start("hold", "interrupted", 3)
    assert line(holder) == "held"
    holder.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in holder.communicate(timeout=60)[1]
    reader = start("read", "interrupted", 0)
    assert line(reader) == "open"
    go_on(reader)
    hits, misses, stored = map(int, line(reader).split())
    assert (hits, misses, stored) == ((EPOCHS - 1) * ROWS, ROWS, ROWS)  # a new cache: nobody had the old one


SLOW = [pytest.param(what, marks=pytest.mark.slow) for what in ("whole", "stopped")]


@pytest.mark.parametrize("what", ["killed", *SLOW])
def test_jobs_prepare_each_batch_once_and_go_on_without_one(start: Start, tmp_path: Path, what: str) -> None:
    jobs = [start("job", what, number) for number in range(JOBS)]
    alive = [0, 1, 2] if what == "whole" else [0, 2]
    for number in alive:
        out, err = jobs[number].communicate(timeout=120)
        assert jobs[number].returncode == 0, err
        seen = list(map(int, out.splitlines()[0].split()))
        epochs = [seen[start : start + ROWS] for start in range(0, len(seen), ROWS)]
        assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * EPOCHS
        assert epochs[0] != epochs[1]
    batches = EPOCHS * ROWS // 5
    prepared = len((tmp_path / "prepared").read_text().split())
    if what == "whole":
        assert prepared == batches
        assert int(out.splitlines()[1]) <= batches
    else:
        assert batches <= prepared <= batches + 2 * JOBS  # what the lost one had begun is begun again
