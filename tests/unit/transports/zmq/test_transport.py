"""The value `ZMQ()`: what it takes, where it is, and the session that it opens."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

import loosestep as ls
from loosestep.transports.processes import session
from loosestep.transports.zmq import transport
from loosestep.transports.zmq.place import Place
from loosestep.transports.zmq.transport import ZMQ


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"deadline": 0.0}, ValueError, "deadline must be above 0"),
        ({"heartbeat_timeout": -1.0}, ValueError, "heartbeat_timeout must be above 0"),
        ({"hosts": (0, 2)}, ValueError, "every number in hosts must be at least 1, got 0"),
        ({"rank": 1}, ValueError, "rank, size and address belong together, and size and address are missing"),
    ],
)
def test_bad_values_are_refused(options: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        ZMQ(**options)


def test_it_is_a_value_that_prints_as_it_was_made_and_keeps_its_secret() -> None:
    assert ls.ZMQ is ZMQ
    assert ZMQ(hosts=[2, 2]) == ZMQ(hosts=(2, 2))  # type: ignore[arg-type]
    assert repr(ZMQ(deadline=5.0)) == "ZMQ(deadline=5.0)"
    one = ZMQ(rank=1, size=2, address="h:5", key="secret")
    assert repr(one) == "ZMQ()"
    assert (one.rank, one.size) == (1, 2)


def test_it_asks_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "found", lambda: Place(2, 3, (), "j"))
    assert (ZMQ().rank, ZMQ().size) == (2, 3)


@pytest.mark.parametrize(("hosts", "opened"), [(None, ((0, 1), (2,))), ((1, 2), ((0,), (1, 2)))])
def test_hosts_are_found_out_unless_they_are_said(
    hosts: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zmq")
    from loosestep.transports.zmq.channel import ZMQChannel

    log: list[Any] = []
    made = SimpleNamespace(hosts=((0, 1), (2,)))
    monkeypatch.setattr(ZMQChannel, "of_this_process", lambda *given: log.append(given) or made)  # type: ignore[func-returns-value]
    monkeypatch.setattr(session, "open_session", lambda channel, *given: log.append(given))
    monkeypatch.setattr(transport, "tell_guard", log.append)
    ZMQ(rank=1, size=3, address="h:5", key="k", hosts=hosts, deadline=7.0, heartbeat_timeout=3.0).open()
    assert log == [(Place(1, 3, ("tcp://h:5",), "h:5"), "k", 7.0), "begun", (opened, 3.0, 7.0, None)]


def test_without_pyzmq_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loosestep.transports.zmq.channel", raising=False)
    monkeypatch.setitem(sys.modules, "zmq", None)
    for name in ("peers", "membership", "rendezvous", "sockets"):
        monkeypatch.delitem(sys.modules, f"loosestep.transports.zmq.{name}", raising=False)
    with pytest.raises(ImportError, match=r"on=ZMQ\(\) needs pyzmq: pip install 'loosestep\[zmq\]'"):
        ZMQ(rank=0, size=1, address="h:5").open()
