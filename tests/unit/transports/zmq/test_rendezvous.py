"""How processes meet, each in a thread."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")

from tests.mpi.wires import together  # noqa: E402

from loosestep.foundation.errors import Mismatch, PeerFailed, TimedOut  # noqa: E402
from loosestep.transports.zmq import rendezvous  # noqa: E402
from loosestep.transports.zmq.place import Place  # noqa: E402
from loosestep.transports.zmq.rendezvous import Patience, excuse, meet  # noqa: E402
from loosestep.transports.zmq.sockets import Sockets  # noqa: E402


@pytest.fixture
def end(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/m"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    all_: list[Sockets] = []

    def make(key: str | None = None) -> Sockets:
        all_.append(Sockets(key))
        return all_[-1]

    yield make
    for each in all_:
        each.close(0)


def test_all_learn_of_all(made: Any, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter("abc")
    monkeypatch.setattr(rendezvous, "who", lambda: next(names))
    places = [Place(rank, 3, (end,), "j") for rank in range(3)]
    found = together([partial(meet, made("k"), each, {"port": each.rank + 5}, 30.0) for each in reversed(places)])
    assert len({token for token, _ in found}) == 1
    assert len(found[0][0]) == 8
    for _, cards in found:
        assert [(card["rank"], card["port"]) for card in cards] == [(0, 5), (1, 6), (2, 7)]


def test_one_alone_meets_nobody(made: Any) -> None:
    token, (card,) = meet(made(), Place(0, 1, (), "alone"), {"port": 5}, 1.0)
    assert (token, card["port"]) == (b"", 5)


def test_who_does_not_come_is_named_by_all(made: Any, end: str) -> None:
    places = [Place(rank, 3, (end,), "j") for rank in (0, 2)]
    first, second = together([partial(meet, made(), each, {}, 1.5) for each in places])
    assert isinstance(first, TimedOut)
    assert str(first) == f"worker 0 waited 1.5 s at its beginning for worker 1, which has not come to {end}"
    assert isinstance(second, (TimedOut, PeerFailed))
    assert "worker 1, which has not come" in str(second)


def test_rank_0_that_does_not_come_is_named(made: Any, end: str) -> None:
    with pytest.raises(
        TimedOut, match="worker 1 waited 0.2 s at its beginning for worker 0, which has not come to"
    ):
        meet(made(), Place(1, 2, (end,), "j"), {}, 0.2)


def test_another_number_of_processes_is_a_mismatch_for_all(made: Any, end: str) -> None:
    places = [Place(0, 2, (end,), "j"), Place(1, 3, (end,), "j")]
    found = together([partial(meet, made(), each, {}, 30.0) for each in places])
    assert [type(each) for each in found] == [Mismatch, Mismatch]
    assert str(found[0]) == str(found[1]) == "worker 1 is one of 3, worker 0 one of 2"


def test_of_two_with_one_rank_the_second_is_refused(made: Any, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter("abcd")
    monkeypatch.setattr(rendezvous, "who", lambda: next(names))
    places = [Place(rank, 3, (end,), "j") for rank in (0, 1, 1)]
    found = together([partial(meet, made(), each, {}, 2.0) for each in places])
    (refused,) = [str(each) for each in found if isinstance(each, Mismatch)]
    assert refused.startswith("both ")
    assert refused.endswith("say that they are rank 1")


def test_an_excuse_ends_the_meeting(made: Any, end: str) -> None:
    guest = made()
    excuse(guest, Place(1, 2, (end,), "j"), "worker 1 failed before its run: boo")
    with pytest.raises(PeerFailed, match="^worker 1 failed before its run: boo$"):
        meet(made(), Place(0, 2, (end,), "j"), {}, 30.0)


def test_an_address_in_use_is_named(made: Any) -> None:
    taken = made().server(1000)
    port = taken.bind_to_random_port("tcp://127.0.0.1")
    place = Place(0, 2, (f"tcp://127.0.0.1:{port}",), "j")
    with pytest.raises(
        OSError, match=rf"rank 0 cannot listen at tcp://127.0.0.1:{port} \(Address already in use\): give"
    ):
        meet(made(), place, {}, 1.0)


def test_a_port_that_another_job_has_is_passed_over(made: Any) -> None:
    """The other job listens at the first; ours meets at the second, whoever is asked first."""
    other = made().server(1 << 20)
    first = f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}"
    with socket.socket() as free:  # closed at once, which a socket of ZeroMQ is not
        free.bind(("127.0.0.1", 0))
        second = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    places = [Place(rank, 2, (first, second), "j") for rank in range(2)]
    found = together([partial(meet, made(), each, {}, 30.0) for each in places])
    assert [len(cards) for _, cards in found] == [2, 2]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"rank": 1}', b'{"rank": "1", "size": 2, "job": 1, "who": 1}']
)
def test_what_is_no_card_changes_nothing(text: bytes, made: Any, end: str) -> None:
    stranger = made().client()
    stranger.connect(end)
    stranger.send(text)
    places = [Place(rank, 2, (end,), "j") for rank in range(2)]
    found = together([partial(meet, made(), each, {}, 30.0) for each in places])
    assert [len(cards) for _, cards in found] == [2, 2]


def test_a_card_of_another_job_is_answered_and_changes_nothing(made: Any, end: str) -> None:
    stranger = made().client()
    stranger.connect(end)
    stranger.send(json.dumps({"rank": 1, "size": 2, "job": "other", "who": "x"}).encode())
    with pytest.raises(TimedOut, match="for worker 1, which has not come"):
        meet(made(), Place(0, 2, (end,), "j"), {}, 1.0)
    assert json.loads(stranger.recv()) == {"other": "the job 'j' meets here"}


def test_patience_says_now_and_then_who_is_late(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Patience(1, 100.0)
    for seconds in (5, 11, 12, 21):
        clock.began -= seconds
        clock.check(["worker 0"])
        clock.began += seconds
    assert capsys.readouterr().err.count("worker 1 has waited") == 2
    clock.began -= 101
    with pytest.raises(TimedOut, match="worker 1 waited 100 s at its beginning for worker 0"):
        clock.check(["worker 0"])
