"""Where the stages of a schedule end, and how the next begins where the one before stood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.unit.sessions import FakeSession
from tests.unit.values import beginning

import loosestep as ls
from loosestep.requests import AllReduce, Request, Shared
from loosestep.requests.worker import Worker
from loosestep.runtime import stage_switch


@dataclass(frozen=True, repr=False)
class Several(ls.LocalSGD):
    """A strategy of as many stages as there are lengths, and one without an end."""

    epochs: tuple[float, ...] = (1.5,)

    @property
    def stages(self) -> tuple[tuple[ls.Strategy, float | None], ...]:
        return tuple((ls.LocalSGD(2), length) for length in (*self.epochs, None))


def worker_of(session: FakeSession, rank: int = 0) -> Worker:
    return Worker(rank, 2, np.zeros(3), lambda name, like: session.share(rank, name, like), [np.ones(3)])


def test_a_stage_ends_after_its_epochs() -> None:
    assert stage_switch.ends(ls.LocalSGD(2), None) == (None,)
    assert stage_switch.ends(Several(), 10) == (15, None)
    assert stage_switch.ends(Several(epochs=(0.25, 0.5)), 10) == (2, 8, None), (
        "rounded where it ends, not where it begins"
    )
    with pytest.raises(ValueError, match="counts epochs: say steps_per_epoch, how many local steps one has"):
        stage_switch.ends(Several(), None)


def perform(session: FakeSession, requests: Any) -> Any:
    """To the end; what the generator returned."""
    handlers: Any = session.endpoint.handlers
    stream = iter(requests)
    while True:
        try:
            request = next(stream)
        except StopIteration as end:
            return end.value
        handlers[type(request)](request)


def read(shared: Shared) -> list[float]:
    into = np.empty(shared.size)
    shared.store.fetch(into, 0)
    return into.tolist()  # type: ignore[no-any-return]


def test_a_shared_variable_is_set_to_the_bit() -> None:
    session = FakeSession()
    shared, wanted = session.share(0, "c", beginning(0)), beginning(3)
    perform(session, stage_switch.store(shared, wanted))
    assert read(shared) == wanted.tolist()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stage_begins_where_its_worker_stands(rank: int) -> None:
    """Its variables are those that were made before; rank 0 sets them."""
    session, strategy = FakeSession(2, rank), ls.EASGD(2)
    one = worker_of(session, rank)
    made = strategy.init(one)
    (shared,) = session.variables.values()
    one.params[:] = [1, 2, 3]
    state = perform(session, stage_switch.begin(strategy, one, made))
    assert list(vars(state)) == list(vars(made))
    assert read(shared) == ([1, 2, 3] if rank == 0 else [0, 0, 0])
    assert list(session.variables.values()) == [shared]


@pytest.mark.parametrize("between", [True, False])
def test_at_its_end_all_go_to_the_consensus_with_the_mean_of_the_moments(between: bool) -> None:
    session, strategy = FakeSession(2), ls.LocalSGD(2)
    one = worker_of(session)
    one.params[:] = 2
    out, seen = np.zeros(3), list[Request]()
    for request in stage_switch.gather(strategy, one, strategy.init(one), out, between=between):
        assert isinstance(request, AllReduce)
        assert request.op == "mean"
        request.buf[:] = 7
        seen.append(request)
    agree = between and strategy.replicas_agree
    assert len(seen) == (1 if agree else 2)
    assert one.params.tolist() == ([2] * 3 if agree else [7] * 3)
    assert next(iter(one.moments)).tolist() == [7] * 3
