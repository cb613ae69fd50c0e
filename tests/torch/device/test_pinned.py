"""Copies between pinned memory and a GPU: what is asked of streams and events, and in which order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest

torch = pytest.importorskip("torch")

from loosestep.torch import device_buffer  # noqa: E402


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """All that is said to torch.cuda, with its signatures: streams `copies` and `computing`, events in turn."""
    said = Mock()
    for name in ("copies", "computing"):
        said.attach_mock(create_autospec(torch.cuda.Stream, instance=True), name)
    for name in ("before", "behind"):
        said.attach_mock(create_autospec(torch.cuda.Event, instance=True), name)
    events = iter([said.before, said.behind])

    @contextmanager
    def stream(chosen: Any) -> Any:
        said.enter(chosen)
        yield
        said.leave()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: said.copies)
    monkeypatch.setattr(torch.cuda, "Event", lambda blocking: next(events))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: said.computing)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda n, dtype, pin_memory: empty(n, dtype=dtype))
    return said


def words(said: Mock) -> list[str]:
    named = {id(getattr(said, name)): name for name in ("copies", "computing", "before", "behind")}
    found = [f"{name}({', '.join(named[id(each)] for each in args)})" for name, args, _ in said.mock_calls]
    said.reset_mock()
    return found


COPY = [
    "before.record(computing)",
    "copies.wait_event(before)",
    "enter(copies)",
    "leave()",
    "behind.record(copies)",
]


def test_copies_come_behind_what_is_computed_and_before_what_follows(said: Mock) -> None:
    there = torch.arange(4.0)
    mirror = device_buffer.PinnedMirror(there)
    mirror.bring(device_buffer.DeviceBuffer(there))
    assert words(said) == COPY
    assert mirror.array.tolist() == [0, 1, 2, 3]
    mirror.array *= 2
    mirror.send(device_buffer.DeviceBuffer(there))
    assert words(said) == [*COPY, "computing.wait_event(behind)"]
    assert there.tolist() == [0, 2, 4, 6]


def test_waiting_is_for_the_gpu_or_for_the_copy(said: Mock) -> None:
    mirror = device_buffer.PinnedMirror(torch.zeros(1))
    said.behind.query.return_value = False
    assert mirror.done() is False
    mirror.wait_for_device()
    mirror.wait()
    assert words(said) == ["behind.query()", "before.synchronize()", "behind.synchronize()"]
