"""Copies of a process that `os.fork` made have no part in what MPI's processes tell each other."""

from __future__ import annotations

import os

from tests.unit.transports.mpi.test_membership import begin, memberships


def test_a_forked_copy_has_no_part_in_the_end() -> None:
    all_ = memberships(2)
    begin(all_, [0, 1])
    pid = os.fork()
    if pid == 0:
        try:
            all_[1].end()
            os._exit(any(all_[1].comm.box(1, 0)) or all_[1].binding.finalized)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_copy_begins_no_run() -> None:
    all_ = memberships(2)
    pid = os.fork()
    if pid == 0:
        try:
            all_[1].begin(1)
        except RuntimeError as error:
            os._exit(0 if "takes no part in its run" in str(error) else 98)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
