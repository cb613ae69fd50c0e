"""Bytes by nonblocking MPI, which is played: headers, payloads in parts, and what MPI says of the dead."""

from __future__ import annotations

from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.mpi import channel
from loosestep.transports.mpi.channel import IN_FLIGHT, INLINE, MPIChannel
from loosestep.transports.processes.wire import Header, Kind

ANY, F8 = -2, np.dtype(float).num


class MPIError(Exception):
    def Get_error_string(self) -> str:  # noqa: N802
        return "MPI_ERR_PROC_FAILED"


class Status:
    source = count = 0

    def Get_source(self) -> int:  # noqa: N802
        return self.source

    def Get_count(self, kind: Any) -> int:  # noqa: N802
        return self.count


class Binding:
    """What of mpi4py.MPI is used."""

    BYTE, ANY_SOURCE, ERRORS_RETURN, Exception, Status = object(), ANY, object(), MPIError, Status

    class Request:
        @staticmethod
        def Testsome(requests: Any) -> Any:  # noqa: N802
            return [place for place, test in enumerate(requests) if test()] or None


class Comm:
    """One end of MPI in memory: messages of a pair and tag in order."""

    def __init__(self, rank: int, size: int, boxes: Any) -> None:
        self.rank, self.size, self.boxes = rank, size, boxes
        self.begun: list[tuple[int, int, int]] = []  # (peer, tag, bytes)
        self.host, self.dead, self.freed = 0, False, False

    def Isend(self, message: Any, to: int, tag: int) -> Any:  # noqa: N802
        self.begun.append((to, tag, len(message[0])))
        box = self.boxes[self.rank, to, tag]
        box.append(message[0])
        return lambda: not any(each is message[0] for each in box)

    def Irecv(self, message: Any, source: int, tag: int) -> Any:  # noqa: N802
        state: list[bool] = []

        def test() -> bool:
            if not state and self.boxes[source, self.rank, tag]:
                message[0][:] = self.boxes[source, self.rank, tag].popleft()
                state.append(True)
            return bool(state)

        return test

    def Iprobe(self, source: int, tag: int, status: Any) -> bool:  # noqa: N802
        if self.dead:
            raise MPIError
        for rank in range(self.size):
            if self.boxes[rank, self.rank, tag]:
                status.source, status.count = rank, len(self.boxes[rank, self.rank, tag][0])
                return True
        return False

    def Recv(self, message: Any, source: int, tag: int) -> None:  # noqa: N802
        message[0][:] = self.boxes[source, self.rank, tag].popleft()

    def Iallgather(self, mine: Any, found: Any) -> None:  # noqa: N802
        for rank in range(self.size):
            found[rank] = rank // 2 + 1 if self.host else 1

    def Set_errhandler(self, handler: Any) -> None:  # noqa: N802
        assert handler is Binding.ERRORS_RETURN, "an error of MPI would end the process"

    def Free(self) -> None:  # noqa: N802
        self.freed = True


def channels(size: int, hosts: bool = False) -> list[Any]:
    boxes: Any = defaultdict(deque)
    made = []
    for rank in range(size):
        comm, log = Comm(rank, size, boxes), list[Any]()
        comm.host = int(hosts)
        member = SimpleNamespace(
            binding=Binding, rank=rank, size=size, log=log, begin=log.append, own=lambda deadline, comm=comm: comm,
            finish=lambda request, deadline: None, end_run=lambda log=log: log.append("ended"),
        )  # fmt: skip
        made.append(MPIChannel(member, 5.0))  # type: ignore[arg-type]
    return made


def carry(sender: Any, receiver: Any, values: Any, times: int = 200) -> tuple[Any, list[str]]:
    """What comes of a message, and in which order its ends were told."""
    told: list[str] = []
    into = np.zeros_like(values)
    header = Header(Kind.DATA, values.dtype.num, values.size, tag=5, note=0.5)
    sender.send(receiver.rank, header, values, lambda: told.append("sent"))
    for _ in range(times):
        for source, came, content in receiver.poll():
            assert (source, came) == (sender.rank, header)
            if content is None:
                receiver.receive(source, into, lambda: told.append("here"))
            else:
                into[...] = np.frombuffer(content)
                told.append("here")
        list(sender.poll())
    return into, told


@pytest.mark.parametrize("length", [0, 1, INLINE // 8, INLINE // 8 + 1, 100_000, 700_000])
@pytest.mark.parametrize("hosts", [False, True])
def test_a_payload_comes_whole_short_or_in_parts(length: int, hosts: bool) -> None:
    all_ = channels(4, hosts)
    values = np.random.default_rng(length).standard_normal(length)
    into, told = carry(all_[0], all_[2], values)
    assert into.tobytes() == values.tobytes()
    assert sorted(told) == ["here", "sent"]
    payloads = [nbytes for _, tag, nbytes in all_[0].comm.begun if tag == channel.PAYLOADS]
    most = channel.FAR_CHUNK if hosts else channel.NEAR_CHUNK
    assert sum(payloads) == (values.nbytes if values.nbytes > INLINE else 0)
    assert all(nbytes == most for nbytes in payloads[:-1])


def test_not_too_many_parts_are_on_their_way_at_once() -> None:
    one, other = channels(4, hosts=True)[:3:2]
    values = np.zeros(3 * IN_FLIGHT * channel.FAR_CHUNK // 8)
    one.send(2, Header(Kind.DATA, F8, values.size), values, None)
    assert len(one.requests) == IN_FLIGHT + 1
    for source, _, _ in other.poll():
        other.receive(source, np.empty_like(values), lambda: None)
    assert len(other.requests) == IN_FLIGHT


def test_messages_of_one_sender_come_in_order() -> None:
    one, other = channels(2)
    for number in range(5):
        one.send(1, Header(Kind.ACK, number=number), None, None)
    assert [header.number for _, header, _ in other.poll()] == [0, 1, 2, 3, 4]


def test_parts_are_counted_as_they_go_and_come() -> None:
    one, other = channels(2)
    assert one.parts == other.parts == 0
    carry(one, other, np.zeros(1000))
    assert one.parts == other.parts == 1


def test_when_anything_came_last_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(channel, "time", clock)
    one, other = channels(2)
    clock.now += 5
    one.send(1, Header(Kind.LEFT), None, None)
    list(other.poll())
    assert (other.last_heard(0), other.last_heard(1), one.last_heard(1)) == (1005, 1000, 1000)


def test_hosts_are_those_of_one_mark_in_the_order_of_their_first_ranks() -> None:
    assert channels(4, hosts=True)[1].hosts == ((0, 1), (2, 3))
    assert channels(3)[0].hosts == ((0, 1, 2),)
    assert channels(3)[0].local
    assert not channels(4, hosts=True)[0].local


def test_what_mpi_says_of_the_dead_is_the_failure_of_a_worker() -> None:
    one, _ = channels(2)
    one.comm.dead = True
    with pytest.raises(PeerFailed, match=r"worker -1 failed: without a word \(MPI_ERR_PROC_FAILED\)"):
        list(one.poll())


@pytest.mark.parametrize("orderly", [True, False])
def test_after_a_failure_nothing_is_given_back(orderly: bool) -> None:
    """Freeing a communicator asks the others."""
    one, _ = channels(2)
    one.close(orderly=orderly)
    assert one.comm.freed is orderly
    assert one.membership.log == [5.0, *(["ended"] if orderly else [])]
