"""A stream of requests on the calendar: whose it is, and whether it runs beside its worker."""

from __future__ import annotations

from tests.unit.sessions import scripted
from tests.unit.values import worker

from loosestep.requests import Barrier
from loosestep.transports.base import Task
from loosestep.transports.simulated import process


def made(**options: bool) -> object:
    (kind,) = (kind for kind in vars(process).values() if getattr(kind, "__module__", "") == process.__name__)
    asked = Barrier()
    return kind(Task(worker(2, 3), scripted(asked), lambda request: 0), scripted(asked), **options)


def test_it_belongs_to_its_worker_and_is_in_nothing_yet() -> None:
    one = made()
    assert one.rank == 2  # type: ignore[attr-defined]
    assert one.waiting is one.done is one.then is None  # type: ignore[attr-defined]
    assert not one.beside  # type: ignore[attr-defined]


def test_what_a_worker_started_runs_beside_it() -> None:
    assert made(beside=True).beside  # type: ignore[attr-defined]
