"""A loop of the user's: the stream is pumped by hand, and what waits for a gradient stays pending."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.clock import Clock
from tests.unit.sessions import Fake, FakeSession

import loosestep as ls
from loosestep.foundation.errors import Diverged, Mismatch, PeerFailed
from loosestep.requests import AllReduce, Gradient, Ready
from loosestep.runtime import user_loop
from loosestep.runtime.numpy_model import Feed, NumpyModel


class UsersModel(NumpyModel):
    """Counts the updates of an optimizer that is the user's."""

    @property
    def updates(self) -> int:
        return self.worker.updates

    @updates.setter
    def updates(self, count: int) -> None:
        self.worker.updates = count


class Users:
    """A script of a user's: batches for so many steps, a gradient of 1 for each."""

    def __init__(
        self,
        strategy: ls.Strategy,
        steps: int = 100,
        session: FakeSession | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.session = session or FakeSession(clock=Clock(0.0))
        (kind,) = (kind for name, kind in vars(user_loop).items() if name == "Connection")
        joined = kind(Fake(self.session), np.zeros(2))
        feed = Feed(lambda rank, size: iter([np.ones(1)] * steps), 0, 1)
        model = UsersModel(joined.worker, lambda x, batch: np.ones_like(x), feed, ls.SGD(1.0))
        joined.compute_with(model)
        self.joined, self.worker = joined, joined.worker
        self.loop = user_loop.Loop(strategy, joined, model, steps_per_epoch)

    def step(self, computing: float = 0.0) -> None:
        """Forward, backward, step()."""
        self.session.time.now += computing
        self.loop.to_update()
        self.loop.perform()
        self.loop.finish()

    @property
    def performed(self) -> list[str]:
        return [type(each).__name__ for each in self.session.endpoint.performed]


def test_a_step_is_a_gradient_and_its_update_with_what_follows() -> None:
    users = Users(ls.LocalSGD(2), session=FakeSession(2))
    users.step()
    assert users.worker.params.tolist() == [-1, -1]
    assert users.performed == ["RollCall"]
    assert isinstance(users.loop.pending, (Gradient, Ready)), "it stands at the next gradient"
    users.step()
    assert users.performed == ["RollCall", "AllReduce"]
    assert (users.worker.clock, users.worker.round) == (2, 1)


def test_backward_begins_what_never_waits_and_no_more() -> None:
    users = Users(ls.AllReduceSGD(), session=FakeSession(2))
    users.loop.perform_early(lambda request: True)
    assert users.performed == ["RollCall", "Start"]
    assert not isinstance(users.loop.pending, (Ready, Gradient))
    users.loop.perform_early(lambda request: True)
    assert users.performed == ["RollCall", "Start"], "it would wait now"
    with pytest.raises(RuntimeError, match=r"^consensus\(\) belongs between steps: .* call zero_grad\(\) first"):
        users.loop.consensus()
    users.step()
    assert users.performed == ["RollCall", "Start", "Wait"]
    assert users.worker.params.tolist() == [-1, -1]


def test_the_model_may_say_that_it_is_not_ready() -> None:
    users = Users(ls.AllReduceSGD(), session=FakeSession(2))
    users.loop.perform_early(lambda request: not isinstance(request, Ready))
    assert users.performed == ["RollCall"]
    assert isinstance(users.loop.pending, Ready)


def test_time_in_the_users_code_is_computing_and_no_waiting() -> None:
    users = Users(ls.LocalSGD(1), session=FakeSession(2, clock=Clock(0.0)))
    users.loop.forward()
    users.step(computing=5.0)
    users.session.time.now += 1.0  # the user evaluates, or loads data
    users.loop.forward()
    users.step(computing=2.0)
    assert users.worker.computing == 7.0
    assert users.worker.communicating == users.joined.meter.waiting == 0.0


def test_time_in_a_communication_is_waiting() -> None:
    session = FakeSession(2, clock=Clock(0.0))
    session.reduce = lambda request: session.time.sleep(3.0)
    users = Users(ls.LocalSGD(1), session=session)
    users.step()
    assert users.joined.meter.waiting == users.worker.communicating == 3.0


def test_between_steps_nothing_is_metered() -> None:
    users = Users(ls.LocalSGD(2), session=FakeSession(2))
    users.step()
    before = dict(users.joined.meter.requests)
    assert users.loop.consensus().tolist() == [-1, -1]
    assert users.performed[-1] == "AllReduce"
    assert users.joined.meter.requests == before
    assert not users.worker.unmetered


@pytest.mark.parametrize("steps", range(5))
def test_a_loop_begins_again_where_another_stood(steps: int) -> None:
    one, other = (Users(ls.LocalSGD(3), session=FakeSession(2)) for _ in range(2))
    for _ in range(steps):
        one.step()
    position = one.loop.position()
    assert (position["clock"], position["round"], position["progress"]) == (steps, -(-steps // 3), steps % 3)
    other.worker.params[:] = one.worker.params
    other.loop.go_to(position)
    for _ in range(7 - steps):
        other.step()
    for _ in range(7 - steps):
        one.step()
    assert one.worker.params.tolist() == other.worker.params.tolist()
    assert one.loop.position() == other.loop.position()
    assert one.performed.count("AllReduce") == other.performed.count("AllReduce") + (steps >= 3)


def test_when_the_data_ends_it_stays_as_long_as_others_have_some() -> None:
    users = Users(ls.LocalSGD(2), 2, session=FakeSession(2))
    users.session.surveys.clear()
    users.step()
    users.step()
    users.loop.leave(None)
    assert users.loop.over
    assert users.session.log[-1] == ("leave", None)
    assert users.loop.consensus().tolist() == [-2, -2]
    with pytest.raises(RuntimeError, match="the run has ended"):
        users.step()


def test_an_error_ends_it_at_once_and_is_told_with_its_place() -> None:
    users = Users(ls.LocalSGD(2), session=FakeSession(2))
    users.step()
    users.loop.leave(KeyError("rows"))
    _, told = users.session.log[-1]
    assert str(told) == "worker 0 failed in round 1, at step 1: KeyError: 'rows'"
    with pytest.raises(RuntimeError, match=r"the run ended with an error \(KeyError\), so there is no consensus"):
        users.loop.consensus()


@pytest.mark.parametrize("strategy", [ls.Downpour(5), ls.Downpour(1), ls.LocalSGD(5)])
def test_the_failure_of_another_is_seen_in_a_step_that_waits_for_nobody(strategy: ls.Strategy) -> None:
    users = Users(strategy, session=FakeSession(2))
    users.step()
    users.session.endpoint.failed = PeerFailed(1, "boo")
    with pytest.raises(PeerFailed, match="worker 1 failed: boo"):
        users.step()


def test_a_consensus_that_is_not_finite_ends_all_alike() -> None:
    def broken(request: AllReduce) -> None:
        if request.op == "mean":
            request.buf[:] = np.nan
        elif request.op == "max":
            request.buf[:] = 1.0  # the lowest of those whose numbers are not finite: 2 - 1

    session = FakeSession(2)
    session.reduce = broken
    users = Users(ls.LocalSGD(2), session=session)
    users.step()
    with pytest.raises(Diverged, match="of worker 1 are not finite"):
        users.loop.consensus()


def test_processes_agree_on_the_run() -> None:
    session = FakeSession(2)
    session.surveys["run"] = lambda mine: [mine, {**mine, "strategy": "other"}]
    with pytest.raises(Mismatch, match="^worker 1 has strategy other, worker 0 has strategy mine$"):
        Users(ls.LocalSGD(2), session=session).joined.agree({"strategy": "mine"})


def test_what_needs_more_than_a_users_loop_gives_is_refused() -> None:
    user_loop.check_strategy(ls.LocalSGD(2))
    with pytest.raises(
        TypeError, match="needs an update of its own, which a loop of your own cannot give: use loo"
    ):
        user_loop.check_strategy(ls.EntropySGD(rho=0.5))
    with pytest.raises(TypeError, match="strategy must be a Strategy"):
        user_loop.check_strategy(ls.SGD())  # type: ignore[arg-type]
