"""Shared memory within one process: what is mapped, found by name, and refused. Other processes: tests/system."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from loosestep.data.shared_memory import Named, Segment
from loosestep.data.shared_memory.free_memory import free_memory
from loosestep.data.shared_memory.segment import opened


def test_memory_is_one_however_it_is_found() -> None:
    segment = Segment.make(8192)
    segment.reserve(0, 8192)
    segment.view[5] = 7
    assert pickle.loads(pickle.dumps(segment)) is segment
    assert Segment.of(segment.fd) is segment
    segment.duplicates.clear()


def test_it_is_no_file_that_could_be_left_behind() -> None:
    segment = Segment.make(4096, "loosestep-unit")
    assert os.readlink(f"/proc/self/fd/{segment.fd}") == "/memfd:loosestep-unit (deleted)"
    assert not os.get_inheritable(segment.fd)


def test_a_lock_is_free_again_after_an_error() -> None:
    segment = Segment.make(4096)
    with pytest.raises(ZeroDivisionError), segment.locked(1.0):
        raise ZeroDivisionError
    with segment.locked(1.0):
        assert not segment.is_held(0)  # by another process


def test_memory_of_a_process_that_has_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="only on its host, by its user, while it lives: process 4194305"):
        opened(4194305, 3, (0, 0))


def test_a_name_is_found_by_the_second_and_free_after_the_first() -> None:
    first = Named("unit segment", lambda: Segment.make(4096))
    second = Named("unit segment", lambda: Segment.make(4096))
    assert (first.first, second.first) == (True, False)
    assert first.segment is second.segment
    first.close()
    third = Named("unit segment", lambda: Segment.make(4096))
    assert third.first
    assert third.segment is not first.segment
    third.close()


def test_a_first_one_that_fails_gives_the_name_back() -> None:
    def fail() -> Segment:
        raise MemoryError

    with pytest.raises(MemoryError):
        Named("unit failing", fail)
    again = Named("unit failing", lambda: Segment.make(4096))
    assert again.first
    again.close()


def limit(group: Path, most: str, used: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 1000\nactive_file 500\n")


def test_limits_of_control_groups_count_and_pages_of_files_do_not(tmp_path: Path) -> None:
    meminfo, group, groups = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   40 kB\n")
    assert free_memory(meminfo, group, groups) == 40 * 1024
    group.write_text("1:name=systemd:/x\n0::/job/step\n")
    limit(groups / "job", "30000", 25000)
    assert free_memory(meminfo, group, groups) == 30000 - 25000 + 1500
    limit(groups / "job" / "step", "9000", 8900)
    assert free_memory(meminfo, group, groups) == 9000 - 8900 + 1500
    limit(groups / "job" / "step", "max", 8900)
    limit(groups / "job", "max", 0)
    assert free_memory(meminfo, group, groups) == 40 * 1024
    limit(groups, "20000", 20000)
    assert free_memory(meminfo, group, groups) == 1500
    assert free_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") == float("inf")
