"""The choice of forms, on a clock that a test sets: what is fastest for the slowest rank, alike on all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock

from loosestep.foundation import buffers
from loosestep.lowering import host_forms as forms
from loosestep.lowering.host_forms import IN_PLACE, KB, MB, NEVER, PIECES, SIZES, Forms
from loosestep.requests import AllGather, AllReduce, Barrier

LARGE, MIDDLE, SMALL = PIECES


class Machine:
    """Ranks that take the seconds of a model for a sum; the other one's times are given."""

    def __init__(self, model: Any, others: float = 0.0) -> None:
        self.clock, self.model, self.others = Clock(), model, others
        self.form, self.asked = Forms(), []

    def use(self, form: Forms) -> None:
        self.form = form

    def perform(self, request: Any) -> None:
        if isinstance(request, AllReduce):
            size = request.buf.nbytes
            form = IN_PLACE if self.form.direct_from <= size else self.form.pieces[0][1]
            self.asked.append((size, form))
            self.clock.now += self.model(size, form)
        elif isinstance(request, AllGather):
            request.out.reshape(2, -1)[:] = [request.piece, np.full(request.piece.size, self.others)]
        else:
            assert isinstance(request, Barrier)

    def measure(self) -> tuple[Forms, dict[tuple[int, int], float]]:
        return forms.measured(self.perform, self.use, buffers.zeros, 2, self.clock.perf_counter)


def seconds(size: int, form: int) -> float:
    """A machine on which a copy costs more than a synchronization from 5 KB on, and pieces are as good as any."""
    return size * 1e-10 + 5e-7 if form == IN_PLACE else size * 2e-10


def test_in_place_from_the_size_on_at_which_it_is_fastest() -> None:
    chosen, times = Machine(seconds).measure()
    assert chosen == Forms(16 * KB, ((0, LARGE),))
    assert times[MB, IN_PLACE] == pytest.approx(MB * 1e-10 + 5e-7)
    assert {size for size, _ in times} == set(SIZES)


def test_the_slowest_rank_counts() -> None:
    slow = Machine(seconds, others=1e-2)  # all forms take as long for the other rank: nothing is gained or lost
    chosen, times = slow.measure()
    assert set(times.values()) == {1e-2}
    assert chosen == Forms(64 * KB, ((0, LARGE),)), "below what is usual it needs a gain"


@pytest.mark.parametrize(("factor", "least"), [(1.4, 16 * KB), (1.6, 256 * KB)])
def test_a_disturbance_is_no_reason_to_copy(factor: float, least: int) -> None:
    def model(size: int, form: int) -> float:
        return size * 1e-10 * (factor if size == 64 * KB else 0.5) if form == IN_PLACE else size * 1e-10

    assert Machine(model).measure()[0].direct_from == least


def test_pieces_by_size_and_only_for_a_gain() -> None:
    def model(size: int, form: int) -> float:
        better = {(MB, MIDDLE): 0.8, (MB, SMALL): 0.79, (4 * MB, SMALL): 0.5, (256 * KB, SMALL): 0.95}
        return seconds(size, form) * better.get((size, form), 1.0)

    chosen, _ = Machine(model).measure()
    assert chosen.pieces == ((0, LARGE), (MB // 2, MIDDLE), (2 * MB, SMALL))


def test_never_in_place_where_it_is_slower_at_the_largest() -> None:
    def model(size: int, form: int) -> float:
        return seconds(size, form) * (4 if form == IN_PLACE and size == SIZES[-1] else 1)

    assert Machine(model).measure()[0].direct_from == NEVER


def test_it_ends_when_it_takes_too_long() -> None:
    machine = Machine(lambda size, form: 0.01)
    chosen, times = machine.measure()
    assert {size for size, _ in times} == {SIZES[0]}
    assert machine.clock.now < 1000 + 0.2
    assert chosen == Forms()


def test_every_form_is_timed_as_often_after_a_barrier() -> None:
    machine = Machine(seconds)
    machine.measure()
    wanted = {(size, form) for size in SIZES for form in forms.candidates(size)}
    assert set(machine.asked) == wanted
    assert len(machine.asked) == forms.TURNS * len(wanted)
    assert forms.candidates(64 * KB) == (IN_PLACE, LARGE)
    assert forms.candidates(MB) == (IN_PLACE, LARGE, MIDDLE, SMALL)


def test_a_choice_survives_json() -> None:
    chosen = Forms(5, ((0, LARGE), (9, SMALL)))
    assert forms.of_facts([5, [[0, LARGE], [9, SMALL]]]) == chosen
    assert forms.of_facts(None) is None
