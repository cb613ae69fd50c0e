"""Messages and sums in memory that the workers of a host map, and what goes another way."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.unit.hosts import HostCalls, on_one_host
from tests.unit.values import bits, worker
from tests.unit.wire import Net

from loosestep import ops
from loosestep.foundation.errors import Mismatch
from loosestep.requests import Exchange, Mix, Wait, Weights
from loosestep.transports.processes import host_messages
from loosestep.transports.processes.host_messages import HostMessages
from loosestep.transports.processes.mailbox import Mailbox

LONG = 300_000  # more than a piece, also of float64


class Player:
    """One worker: its messages, and calls that let the others act while it waits."""

    def __init__(self, net: Net, hosts: Any, calls: HostCalls) -> None:
        self.mailbox = Mailbox(net.ends[calls.rank])
        self.messages = HostMessages(self.mailbox, hosts)
        self.calls: Any = calls
        self.checks, self.looks = 0, 0
        calls.engine = SimpleNamespace(progress=lambda: calls.meanwhile())  # type: ignore[attr-defined]
        calls.check = lambda: setattr(self, "checks", self.checks + 1)  # type: ignore[attr-defined]
        calls.place = ""  # type: ignore[attr-defined]
        look = lambda: setattr(self, "looks", self.looks + 1)  # noqa: E731
        calls.detector = SimpleNamespace(watch=lambda what, began: SimpleNamespace(look=look))  # type: ignore[attr-defined]
        self.messages.open(calls)  # type: ignore[arg-type]

    def begin(self, request: Exchange) -> Any:
        return self.messages.begin(request, self.calls.worker)

    def go_on(self) -> None:
        """What the progress engine does."""
        self.messages.advance()
        for source, header, content in self.mailbox.wire.poll():
            self.mailbox.arrivals[header.kind](source, header, content)  # type: ignore[index]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_messages, "SLICE", 0.0)


def players(hosts: Any = ((0, 1),)) -> list[Player]:
    size = sum(map(len, hosts))
    net = Net(size)
    if len(hosts) == size:
        return [Player(net, hosts, HostCalls(rank, size, {})) for rank in range(size)]
    return on_one_host(size, lambda calls: Player(net, hosts, calls))


def meet(all_: Sequence[Player], operations: Sequence[Any]) -> None:
    for _ in range(200):
        if not any(each.left for each in operations):
            return
        for one in all_:
            one.go_on()
    raise AssertionError("it is never done")


@pytest.mark.parametrize("n", [0, 3, LONG])
def test_a_worker_that_waits_serves_others_and_looks_after_them(n: int) -> None:
    one, two = players()
    mine, theirs = np.full(n, 1.0), np.full(n, 2.0)
    come: list[Any] = [np.empty(n), np.empty(n)]
    turns: list[Any] = []

    def others() -> None:
        if len(turns) == 3:
            two.begin(Exchange([(0, theirs)], [(0, come[1])], 5.0))
        turns.append(one.calls.waiting)
        two.go_on()

    one.calls.meanwhile = others
    request = Exchange([(1, mine)], [(1, come[0])], 4.0, notes := {})
    one.messages.perform(request)
    two.go_on()
    assert bits(come) == bits([theirs, mine])
    assert notes == {1: 5.0}
    assert set(turns) == {request}
    assert one.calls.waiting == ""
    assert one.calls.waits == 1
    assert one.checks == one.looks == len(turns) > 3


def test_what_was_begun_ends_when_all_is_here() -> None:
    one, two = players()
    ended: list[str] = []
    come = np.empty(LONG)
    waits = one.begin(Exchange((), [(1, come)]))
    waits.then = lambda: ended.append("come")
    assert not one.messages.advance()
    sends = two.begin(Exchange([(0, np.arange(float(LONG)))], ()))
    assert not ended
    meet((one, two), (waits, sends))
    assert ended == ["come"]
    assert bits([come]) == bits([np.arange(float(LONG))])
    assert not one.begin(Exchange()).left


def test_messages_to_other_hosts_go_over_the_wire() -> None:
    all_ = players(((0, 1), (2,)))
    come = np.zeros((3, 3, 4))
    notes: list[dict[int, float]] = [{}, {}, {}]
    operations = [
        one.begin(
            Exchange(
                [(to, np.full(4, 10.0 * rank + to)) for to in range(3)],
                [(source, come[rank, source]) for source in range(3)],
                float(rank),
                notes[rank],
            )
        )
        for rank, one in enumerate(all_)
    ]
    meet(all_, operations)
    for rank in range(3):
        assert [float(row[0]) for row in come[rank]] == [10.0 * source + rank for source in range(3)]
        assert notes[rank] == {0: 0.0, 1: 1.0, 2: 2.0}
    assert [one.messages.counts[:2] for one in all_] == [(2, 2), (2, 2), (1, 1)]
    assert [one.mailbox.sent for one in all_] == [1, 1, 2]
    assert Mix not in all_[0].messages.handlers
    assert not all_[0].messages.background


def test_where_each_is_on_a_host_of_its_own_there_is_nothing() -> None:
    messages = players(((0,), (1,)))[0].messages
    assert not messages.handlers
    assert not messages.background
    assert not messages.operations
    assert messages.counts == (0, 0, 0)
    assert not messages.advance()
    messages.close()


def test_before_the_memory_is_mapped_all_goes_over_the_wire() -> None:
    net, come = Net(2), np.zeros(3)
    mailboxes = [Mailbox(end) for end in net.ends]
    early = HostMessages(mailboxes[0], ((0, 1),))
    early.calls = SimpleNamespace(perform=(asked := []).append)  # type: ignore[assignment, var-annotated]
    early.handlers[Exchange](request := Exchange([(1, np.ones(3))], ()))
    assert asked == [request]
    early.begin(request, worker(0, 2))
    assert [header.size for header in net.on_the_way(0, 1)] == [come.size]


def test_where_it_rests_depends_on_where_news_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for hosts, sleeps in ((((0, 1),), []), (((0, 1), (2,)), [0.5])):
        one = players(hosts)[0]
        slept: list[float] = []
        monkeypatch.setattr(one.mailbox.wire, "rest", slept.append)
        one.messages.rest(0.5 if sleeps else 1e-4)
        assert slept == sleeps


def row(rank: int) -> Weights:
    return Weights(((0, 0.3 + rank), (1, 0.7)), (1 - rank,))


@pytest.mark.parametrize("n", [3, LONG])
def test_a_sum_over_neighbours_has_the_bits_of_a_weighted_sum(n: int) -> None:
    both = players()
    xs = [np.random.default_rng(rank).normal(size=n) for rank in range(2)]
    wanted = [np.empty(n), np.empty(n)]
    for rank in range(2):
        ops.weighted_sum(xs, [weight for _, weight in row(rank).row], wanted[rank])
    requests = [Mix(x, row(rank)) for rank, x in enumerate(xs)]
    waits = [both[1].messages.background[Mix](requests[1])]  # which only sends until it is waited for
    both[0].calls.meanwhile = both[1].go_on
    both[0].messages.handlers[Mix](requests[0])
    both[1].go_on()
    assert bits(xs) == bits([wanted[0], xs[1]])
    assert bits([xs[1]]) != bits([wanted[1]])
    waits[0](Wait(requests[1]))
    assert bits(xs) == bits(wanted)
    assert [one.messages.counts[:2] for one in both] == [(1, 1)] * 2
    assert both[0].calls.waiting == ""
    assert both[0].calls.waits == 1


def test_what_does_not_fit_is_named_by_the_receiver() -> None:
    words = "worker 1 sent 2 float64 to worker 0, which expects 3 float64 in round 0"
    asks: list[Any] = [
        lambda one: one.messages.perform(Exchange((), [(1, np.empty(3))])),
        lambda one: one.begin(Exchange((), [(1, np.empty(3))])),
        lambda one: one.messages.mix(Mix(np.empty(3), Weights(((0, 1.0), (1, 1.0)), ()))),
    ]
    for number, ask in enumerate(asks):
        one, two = players()
        tag = host_messages.MIX + 1 if number == 2 else 0
        two.begin(Exchange([(0, np.empty(2))], (), tag=tag))
        with pytest.raises(Mismatch, match=words):
            ask(one)
    one, two = players()
    one.begin(Exchange((), [(1, np.empty(3))]))
    two.begin(Exchange([(0, np.empty(2))], ()))
    with pytest.raises(Mismatch, match=words):
        one.go_on()
