"""Hosts that share a cache: each sample is in one place, read once if all fit, and strangers get nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.clock import Clock
from tests.unit.data.cache.test_minio import SIZE, Rows, epochs

from loosestep.data import MinIOCache
from loosestep.data.cache.frames import MARK, Link, Refused, key_of
from loosestep.data.cache.service import GET, REQUEST, RETRY, Peers, parsed


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    names = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return names


@pytest.fixture
def hosts() -> Iterator[Any]:
    """Makes the caches of so many hosts, all in this process."""
    made: list[MinIOCache] = []

    def make(count: int, capacity: int, rows: int = 60) -> list[MinIOCache]:
        names = free_ports(count)
        options: dict[str, Any] = {"hosts": names, "key": "secret", "deadline": 5.0}
        made.extend(MinIOCache(Rows(rows), capacity, host=host, **options) for host in range(count))
        return made

    yield make
    for cache in made:
        cache.close()


def reads(caches: list[MinIOCache]) -> int:
    return sum(sum(cache.dataset.reads) for cache in caches)  # type: ignore[attr-defined]


def test_storage_is_read_once_where_the_sum_of_memories_holds_all(hosts: Any) -> None:
    caches = hosts(3, 20 * SIZE)
    for _ in range(3):
        for cache in caches:
            assert sorted(epochs(cache, 1)[0]) == sorted(epochs(Rows(60), 1)[0])
    assert reads(caches) == 60
    for host, cache in enumerate(caches):
        stats = cache.stats()
        assert stats.stored == 20
        assert [number for number in range(60) if cache.store.index[number]] == list(range(host, 60, 3))
        assert stats.hits + stats.remote_hits + stats.misses == 180
        assert stats.failures == 0
        assert stats.hit_rate > 0.6


def test_where_it_does_not_hits_are_the_sum_of_the_capacities(hosts: Any) -> None:
    caches = hosts(2, 10 * SIZE)
    epochs(caches[0], 1)
    before = reads(caches)
    epochs(caches[1], 1)
    assert before == 60
    assert reads(caches) - before == 60 - 20


def test_a_host_that_has_gone_is_left_out_and_asked_again_later(hosts: Any) -> None:
    caches = hosts(2, 60 * SIZE)
    caches[1].close()
    clock = Clock()
    here = caches[0]
    assert here.peers is not None
    here.peers.clock = clock.monotonic
    with pytest.warns(RuntimeWarning, match="host 1 of the cache, at 127.0.0.1:.* does not answer"):
        assert here[1] == Rows(2)[1]
    assert here[3] == Rows(4)[3]  # without another attempt
    assert here.stats().failures == 2
    clock.now += RETRY + 1
    with pytest.warns(RuntimeWarning, match="does not answer"):
        here[5]


def test_another_key_is_refused_by_either_side(hosts: Any) -> None:
    caches = hosts(2, 60 * SIZE)
    caches[1][1]
    assert caches[0].peers is not None
    stranger = Peers(caches[0].peers.hosts, 0, key_of("other"), 60, 5.0)
    with pytest.warns(RuntimeWarning, match="does not answer"), pytest.raises((Refused, ConnectionError)):
        stranger.get(1)


def test_what_is_no_cache_gets_nothing_and_harms_nobody(hosts: Any) -> None:
    caches = hosts(2, 60 * SIZE)
    caches[1][1]
    assert caches[0].peers is not None
    address = caches[0].peers.hosts[1]
    for said in (b"GET / HTTP/1.1\r\n" + bytes(100), MARK + bytes(64)):
        with socket.create_connection(address, timeout=5) as stranger:
            stranger.sendall(said)
            heard = b""
            try:
                stranger.shutdown(socket.SHUT_WR)
                while part := stranger.recv(4096):
                    heard += part
            except OSError:  # it was sent away
                pass
        assert bytes(20) not in heard  # of sample 1
    assert caches[0][1] == Rows(2)[1]
    assert caches[0].stats().remote_hits == 1


def test_another_data_set_is_not_served(hosts: Any) -> None:
    caches = hosts(2, 60 * SIZE)
    assert caches[0].peers is not None
    other = Peers(caches[0].peers.hosts, 0, key_of("secret"), 61, 5.0)
    with pytest.warns(RuntimeWarning, match="does not answer"), pytest.raises(ConnectionError):
        other.get(1)


def linked(change: Any = None, keys: tuple[str, str] = ("k", "k")) -> tuple[Link, Link, socket.socket]:
    """Two ends of a connection; the server's socket is the last."""
    a, b = socket.socketpair()
    for each in (a, b):
        each.settimeout(5)
    made: list[Any] = []

    def serve() -> None:
        try:
            made.append(Link(a, key_of(keys[0]), server=True))
        except (Refused, OSError) as error:
            made.append(error)
            a.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client = Link(b, key_of(keys[1]), server=False)
    except (Refused, OSError):
        b.close()
        raise
    finally:
        thread.join()
    return made[0], client, a


def test_messages_arrive_as_they_were_sent() -> None:
    server, client, _ = linked()
    for content in (b"", b"abc", bytes(100_000)):
        sender = threading.Thread(target=client.send, args=(content[:1], memoryview(content)[1:]))
        sender.start()
        assert server.receive(1 << 20) == content
        sender.join()
    server.send(b"back")
    assert client.receive(10) == b"back"
    server.close()
    client.close()


def test_a_changed_a_repeated_and_a_long_message_are_refused() -> None:
    server, client, a = linked()
    a.sendall(struct.pack("<Q", 3) + b"abc" + bytes(32))
    with pytest.raises(Refused, match="was changed on its way"):
        client.receive(10)
    client.send(bytes(20))
    with pytest.raises(Refused, match="announces 20 bytes, at most 10 make sense"):
        server.receive(10)
    server.close()
    client.close()

    server, client, a = linked()
    kept = bytearray()

    class Recorded:
        def sendall(self, content: bytes) -> None:
            kept.extend(content)

    client.socket, real = Recorded(), client.socket  # type: ignore[assignment]
    client.send(GET + REQUEST.pack(1, 2))
    real.sendall(kept + kept)
    server.receive(100)
    with pytest.raises(Refused, match="was changed on its way"):
        server.receive(100)
    server.close()
    real.close()


def test_an_end_with_another_key_is_refused() -> None:
    with pytest.raises((Refused, ConnectionError)):
        linked(keys=("one", "two"))


def test_an_echo_is_no_partner() -> None:
    a, b = socket.socketpair()
    with a, b:
        a.settimeout(5)

        def echo() -> None:
            try:
                while part := b.recv(100):
                    b.sendall(part)
            except OSError:
                pass

        thread = threading.Thread(target=echo)
        thread.start()
        with pytest.raises(Refused, match="repeats what it hears"):
            Link(a, key_of("k"), server=True)
        a.close()
        thread.join()


@pytest.mark.parametrize("wrong", ["one", "one:", ":5", "one:x", "one:70000", "one:0"])
def test_an_address_needs_a_name_and_a_port(wrong: str) -> None:
    with pytest.raises(ValueError, match="addresses with a port"):
        parsed(wrong)


def test_addresses_are_parsed() -> None:
    assert parsed("one:29600") == ("one", 29600)
    assert parsed("[::1]:29600") == ("::1", 29600)
