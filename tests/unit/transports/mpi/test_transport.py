"""The value `MPI()`: what it takes, and the session that it opens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import loosestep as ls
from loosestep.transports.mpi import transport
from loosestep.transports.mpi.transport import MPI
from loosestep.transports.processes import session


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"deadline": 0.0}, ValueError, "deadline must be above 0"),
        ({"heartbeat_timeout": -1.0}, ValueError, "heartbeat_timeout must be above 0"),
        ({"hosts": (0, 2)}, ValueError, "every number in hosts must be at least 1, got 0"),
        ({"hosts": 4}, TypeError, "hosts must be the number of workers on each host"),
    ],
)
def test_bad_values_are_refused(options: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        MPI(**options)


def test_it_is_a_value_that_prints_as_it_was_made() -> None:
    assert ls.MPI is MPI
    assert MPI(hosts=[2, 2]) == MPI(hosts=(2, 2))  # type: ignore[arg-type]
    assert repr(MPI(deadline=5.0)) == "MPI(deadline=5.0)"


@pytest.mark.parametrize(("hosts", "opened"), [(None, ((0, 1), (2,))), ((1, 2), ((0,), (1, 2)))])
def test_hosts_are_found_out_unless_they_are_said(
    hosts: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[Any] = []
    monkeypatch.setattr(transport, "checked_world", lambda: SimpleNamespace(size=3, rank=1))
    monkeypatch.setattr(transport, "this_process", lambda: "this process")
    monkeypatch.setattr(
        transport, "MPIChannel", lambda *given: log.append(given) or SimpleNamespace(hosts=((0, 1), (2,)))
    )  # type: ignore[func-returns-value]
    monkeypatch.setattr(session, "open_session", lambda channel, *given: log.append(given))
    monkeypatch.setattr(transport, "tell_guard", log.append)
    one = MPI(hosts=hosts, deadline=7.0, heartbeat_timeout=3.0)
    assert (one.size, one.rank) == (3, 1)
    one.open()
    assert log == [("this process", 7.0), "begun", (opened, 3.0, 7.0, None)]
