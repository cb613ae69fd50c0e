"""Host when things go wrong: the killed, the stopped, the aborted, the forked, too little memory."""

import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.native.processes import PATIENCE, memory, on_processes, result_of, started
from tests.native.threads import on_threads

from loosestep import _core


def until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def sums_for_ever(host, rank):
    x = np.zeros(3_000_000, np.float32)
    host.note(f"rank {rank} sums")
    while (said := host.all_reduce(x, "sum", 1.0, 0.2)) != "aborted":
        pass
    return said


def waits_on(host, x):
    """Sums until nobody answers any more."""
    end = time.monotonic() + PATIENCE
    while host.all_reduce(x, "sum", 1.0, 0.3) == "done":
        assert time.monotonic() < end
    return host.all_reduce(x, "sum", 1.0, 0.3)


def test_a_killed_rank_beats_no_more():
    x = np.zeros(3_000_000, np.float32)
    with memory(3) as (path, host), started(3, sums_for_ever, path) as ranks:
        until(lambda: host.beat_age(2) < 1)
        assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "done"
        ranks[2][0].kill()
        assert waits_on(host, x) == "waiting"
        ranks[2][0].join()
        assert host.noted(2) == "rank 2 sums"
        before = host.beat_age(2)
        until(lambda: host.beat_age(2) > before + 0.6)
        assert host.beat_age(1) < 0.6
        host.abort()
        assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "aborted"
        assert result_of(ranks[1][1]) == "aborted"


def test_a_stopped_rank_is_seen_and_goes_on_when_it_is_continued():
    x = np.zeros(3_000_000, np.float32)
    with memory(2) as (path, host), started(2, sums_for_ever, path) as ranks:
        assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "done"
        os.kill(ranks[1][0].pid, signal.SIGSTOP)
        assert waits_on(host, x) == "waiting"
        until(lambda: host.beat_age(1) > 1)
        os.kill(ranks[1][0].pid, signal.SIGCONT)
        until(lambda: host.all_reduce(x, "sum", 1.0, 0.3) == "done")
        until(lambda: host.beat_age(1) < 0.5)
        host.abort()
        assert result_of(ranks[1][1]) == "aborted"


def test_a_heart_beats_while_python_does_not():
    with memory(2) as (path, host), started(2, holds_the_gil, path) as ranks:
        until(lambda: host.noted(1) == "holding")
        worst = 0.0
        while host.noted(1) == "holding":
            worst = max(worst, host.beat_age(1))
            time.sleep(0.01)
        held = result_of(ranks[1][1])
        assert worst < held / 2


def holds_the_gil(host, rank):
    number = 3 ** (1 << 19)
    host.note("holding")
    start = time.monotonic()
    while time.monotonic() - start < 3:
        str(number % 10**4000) and pow(number, 3)  # long calls without a byte code between
    host.note("over")
    return time.monotonic() - start


def waits(host, rank):
    return host.barrier(PATIENCE)


def test_abort_wakes_every_process_and_stays():
    with memory(4) as (path, host), started(4, waits, path) as ranks:
        until(lambda: all(host.beat_age(rank) < math.inf for rank in range(4)))
        host.abort()
        assert [result_of(pipe) for _, pipe in ranks.values()] == ["aborted"] * 3
        assert host.barrier(0) == "aborted"
        assert host.all_reduce(np.ones(3), "sum", 1.0, 0) == "aborted"


def test_a_rank_that_never_came_has_no_age():
    with memory(2) as (_, host):
        assert host.beat_age(1) == math.inf
        assert host.noted(1) == ""
        assert 0 <= host.beat_age(0) < PATIENCE
        assert host.barrier(0.05) == "waiting"


# --- memory ------------------------------------------------------------------------------------------------


def test_more_than_there_is_cannot_be_made():
    with pytest.raises(
        OSError, match=r"no room for 1125899906842624 bytes of shared memory, the system has \d+ left"
    ):
        _core.Host.make(1 << 50)


LIMITED = """
import resource, sys
from loosestep import _core
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    _core.Host(sys.argv[1], 2, 0, True)
except OSError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_an_error_and_not_a_signal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "memory")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"no room for {_core.Host.needed(2)} bytes of shared memory in {tmp_path}/memory" in done.stdout


def test_a_small_dev_shm_is_an_error_and_not_a_signal(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        with pytest.raises(OSError, match="no room for .* bytes of shared memory in .*/memory: No space left"):
            _core.Host(str(tmp_path / "memory"), 2, 0, True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_memory_that_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "memory"
    with pytest.raises(FileNotFoundError, match="shared memory cannot be opened at"):
        _core.Host(str(path), 2, 1, False)
    path.write_bytes(b"x" * 10)
    with pytest.raises(ValueError, match="holds 10 bytes, wanted"):
        _core.Host(str(path), 2, 1, False)
    with pytest.raises(FileExistsError, match="shared memory cannot be made at"):
        _core.Host(str(path), 2, 0, True)
    path.write_bytes(b"x" * _core.Host.needed(2))
    with pytest.raises(ValueError, match="was not made by Host"):
        _core.Host(str(path), 2, 1, False)
    with memory(2) as (shared, _), pytest.raises(ValueError, match="is for 2 ranks, wanted 3"):
        _core.Host(shared, 3, 1, False)
    with pytest.raises(ValueError, match="rank must be between 0 and 1, got 2"):
        _core.Host(str(tmp_path / "other"), 2, 2, True)
    with pytest.raises(TypeError, match="path must be a descriptor or a path, got <class 'pathlib"):
        _core.Host(path, 2, 1, False)


def test_a_file_by_name_is_shared_and_left_to_its_owner(tmp_path):
    path = str(tmp_path / "memory")
    hosts = [_core.Host(path, 2, 0, True), _core.Host(path, 2, 1, False)]
    assert on_threads(2, lambda rank: hosts[rank].barrier(PATIENCE)) == ["done", "done"]
    for host in hosts:
        host.close()
    assert os.path.getsize(path) == _core.Host.needed(2)


def mapped():
    return sum("loosestep" in line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd" in line)


def test_close_gives_the_memory_and_the_thread_back():
    before, threads = mapped(), len(os.listdir("/proc/self/task"))
    with memory(2) as (path, _):
        other = _core.Host(path, 2, 1, False)
        assert mapped() == before + 2
        other.close()
        assert mapped() == before + 1
        other.close()
        for call in (other.abort, lambda: other.barrier(0), lambda: other.note("x")):
            with pytest.raises(ValueError, match="this Host is closed"):
                call()
    assert mapped() == before
    until(lambda: len(os.listdir("/proc/self/task")) <= threads)


def in_a_call(host):
    try:
        host.barrier(0)
    except RuntimeError:
        return True
    return False


def test_it_is_not_closed_under_a_call():
    with memory(2) as (_, host):
        waiting = threading.Thread(target=lambda: host.barrier(PATIENCE))
        waiting.start()
        until(lambda: in_a_call(host))
        with pytest.raises(RuntimeError, match="rank 0 is already in a call on another thread"):
            host.close()
        with pytest.raises(RuntimeError, match="rank 0 is already in a call on another thread"):
            host.barrier(0)
        host.abort()
        waiting.join()


FORKED = """
import os, sys
from loosestep import _core
host = _core.Host(_core.Host.make(_core.Host.needed(2)), 2, 0, True)
child = os.fork()
if not child:
    for call in (lambda: host.barrier(0), host.abort, lambda: host.beat_age(0)):
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
    host.close()
    del host
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert host.barrier(0) == "waiting"
host.close()
"""


def test_a_fork_has_no_part_in_it():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines() == ["this Host was opened by another process: a forked child cannot use it"] * 3
    )


def test_an_exit_in_the_middle_of_a_call_is_clean():
    def check(code):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    start = "from loosestep import _core\nh = _core.Host(_core.Host.make(_core.Host.needed(2)), 2, 0, True)\n"
    done = check(start + "print(h.barrier(0))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "waiting\n", "")


def many(host, rank, rounds):
    x = np.ones(100, np.float32)
    for _ in range(rounds):
        assert host.all_reduce(x, "mean", 1.0, PATIENCE) == "done"
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def test_eight_ranks_on_any_machine_make_thousands_of_rounds():
    assert len(on_processes(8, many, 3000)) == 8
