"""What one round starts and a later one waits for: through evaluations, checkpoints, crashes and the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.contract.parametrize import MANY, VIRTUAL, go
from tests.contract.problem import Quadratic
from tests.contract.test_resuming import CRASHES, check_crashes

import loosestep as ls
from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests import (
    AllGather,
    AllReduce,
    Broadcast,
    Communication,
    Exchange,
    Local,
    Mix,
    Request,
    Start,
    Wait,
    Weights,
)
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport

KINDS = ("reduce", "broadcast", "gather", "mix", "message")


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@dataclass(frozen=True, repr=False)
class Late(ls.Strategy):
    """Replicas move towards what was sent a round ago: x <- x + (result - x) / 4."""

    kind: str
    ahead: bool = False  # the handle is read before the steps in which a synchronization point may come

    def init(self, worker: Worker) -> ls.State:
        results = ls.State(out=buffers.zeros(worker.params.size * worker.size, worker.params.dtype))
        return ls.State(sent=worker.copy_of_params(), coming=None, results=results)

    def round(self, worker: Worker, state: ls.State) -> Iterator[Request]:
        coming = state.coming
        yield Local(4)
        if coming is not None:
            yield Wait(coming if self.ahead else state.coming)
            ops.lerp(worker.params, self.result(worker, state), 0.25)
        ops.copy(worker.params, state.sent)
        state.coming = self.communication(worker, state)
        yield Start(state.coming)

    def communication(self, worker: Worker, state: ls.State) -> Communication:
        after, before = (worker.rank + 1) % worker.size, (worker.rank - 1) % worker.size
        weights = Weights(((worker.rank, 0.5), (before, 0.5)), (after,))
        made: dict[str, Communication] = {
            "reduce": AllReduce(state.sent, weight=worker.samples),
            "broadcast": Broadcast(state.sent, root=1),
            "gather": AllGather(state.sent, state.results.out),
            "mix": Mix(state.sent, Weights(tuple(sorted(weights.row)), weights.readers)),
            "message": Exchange(((after, state.sent.copy()),), ((before, state.sent),)),
        }
        return made[self.kind]

    def result(self, worker: Worker, state: ls.State) -> ls.ops.Buffer:
        return state.results.out[-worker.params.size :] if self.kind == "gather" else state.sent


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on", MANY)
def test_killed_and_resumed_is_as_never_killed(
    kind: str, ahead: bool, on: type[Transport], tmp_path: Path
) -> None:
    crashes = CRASHES[::2] if on.virtual else CRASHES[::4]
    check_crashes(Late(kind, ahead), on(3), tmp_path, crashes, least=2, every=5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("virtual", VIRTUAL)
def test_a_wait_lasts_as_long_as_without_checkpoints(kind: str, virtual: type[Transport], tmp_path: Path) -> None:
    """An exchange that takes longer than the steps: what was settled is waited for nevertheless."""
    on = virtual(3, step_time=1e-3, latency=4e-3, stragglers=ls.stragglers.LogNormal(0.5))
    data = Quadratic([17, 14, 17])
    plain = go(Late(kind), data, on)
    saved = go(Late(kind), data, on, checkpoint=tmp_path, checkpoint_every=1, every=2, evaluate=lambda x: 0.0)
    assert saved.params.tobytes() == plain.params.tobytes()
    assert saved.seconds == plain.seconds
    assert [worker.waiting for worker in saved.workers] == [worker.waiting for worker in plain.workers]
    assert max(worker.waiting for worker in plain.workers) > 0


@pytest.mark.parametrize("on", MANY)
def test_with_other_workers_nothing_is_under_way(on: type[Transport], tmp_path: Path) -> None:
    first = go(Late("reduce"), Quadratic([50] * 4), on(4), steps=6, checkpoint=tmp_path)
    again = go(Late("reduce"), Quadratic([50] * 2), on(2), steps=14, checkpoint=tmp_path, resume=True)
    assert again.steps == 14
    assert np.abs(again.params - first.params).max() > 0


def test_what_is_under_way_at_the_end_of_a_part_of_a_schedule_is_dropped() -> None:
    """It ends inside a round, where nothing would wait for it; the next part starts with its own."""
    strategy = ls.Stages((ls.CoCoDSGD(4), 1), (ls.DaSGD(3, 1), 1), (ls.CoCoDSGD(2), None))
    data = Quadratic([30, 24, 30], [2, 1, 3], noise=1.0)
    near = ls.Simulated(3, latency=0.0)  # where the fewest bytes are the fastest, as they are counted in threads
    threads, virtual = (go(strategy, data, on, steps_per_epoch=10) for on in (ls.Threads(3), near))
    assert threads.params.tobytes() == virtual.params.tobytes()
    assert threads.bytes_sent == virtual.bytes_sent
