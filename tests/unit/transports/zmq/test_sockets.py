"""Sockets with a key: who has the same is let in, nobody else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")

from loosestep.transports.zmq import sockets  # noqa: E402
from loosestep.transports.zmq.sockets import Key, Sockets  # noqa: E402


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    all_: list[Sockets] = []

    def make(key: str | None) -> Sockets:
        all_.append(Sockets(key))
        return all_[-1]

    yield make
    for each in all_:
        each.close(0)


def arrives(server: Sockets, client: Any, seconds: float = 2.0) -> bool:
    """Whether what a client says is heard."""
    listening = server.server(1000)
    port = listening.bind_to_random_port("tcp://127.0.0.1")
    client.connect(f"tcp://127.0.0.1:{port}")
    client.send(b"hello")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        server.admit()
        if listening.poll(10):
            return bool(listening.recv_multipart()[-1] == b"hello")
    return False


def test_a_secret_is_a_key_pair_of_its_own() -> None:
    assert Key.of("a") == Key.of("a")
    assert Key.of("a") != Key.of("b")
    assert zmq.curve_public(Key.of("a").secret) == Key.of("a").public


def test_without_a_key_and_with_the_same_key_messages_come(made: Any) -> None:
    assert arrives(made(None), made(None).client(), 10)
    assert arrives(made("a"), made("a").client(), 10)


def test_the_key_may_be_in_the_environment(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOSESTEP_KEY", "a")
    assert made(None).key == Key.of("a")
    assert made("b").key == Key.of("b")


@pytest.mark.parametrize("key", [None, "b"])
def test_another_key_or_none_is_refused(key: str | None, made: Any) -> None:
    assert not arrives(made("a"), made(key).client(), 0.7)


def test_who_knows_the_public_key_alone_is_refused_at_the_gate(made: Any) -> None:
    server, stranger = made("a"), made("b").client()
    stranger.curve_serverkey = Key.of("a").public
    assert not arrives(server, stranger, 0.7)
    assert server.refused


def test_garbage_changes_nothing(made: Any) -> None:
    server = made("a")
    listening = server.server(1000)
    port = listening.bind_to_random_port("tcp://127.0.0.1")
    for text in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"\xff" + b"\0" * 8 + b"\x7f\3\0"):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(text)
    server.admit()
    assert not listening.poll(100)
    client = made("a").client()
    client.connect(f"tcp://127.0.0.1:{port}")
    client.send(b"hello")
    until = time.monotonic() + 10
    while not listening.poll(10):
        server.admit()
        assert time.monotonic() < until
    assert listening.recv_multipart()[-1] == b"hello"


def test_a_libzmq_without_curve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets.zmq, "has", lambda what: False)
    with pytest.raises(RuntimeError, match="a key was given, but this libzmq .* was built without CURVE"):
        Sockets("a")
