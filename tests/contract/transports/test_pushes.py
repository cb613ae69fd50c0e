"""What every transport promises of rules that move shared variables: any op, several at once, all counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.contract.ops.op_arguments import arguments, each_buffer, written
from tests.contract.scripted import Ask, ask
from tests.contract.transports.transports import carriers, check, each
from tests.looped import looped

import loosestep as ls
from loosestep import _core, ops
from loosestep.requests import Barrier, Fetch, Push, Request, Shared
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport


def pushable() -> dict[str, int]:
    """Every op whose first buffers are those that it writes, and how many these are."""
    found = {}
    for name in filter(is_elementwise, ops.specification):
        buffers, changed = each_buffer(name), written(name)
        if changed and changed == buffers[: len(changed)]:
            found[name] = len(changed)
    return found


def is_elementwise(name: str) -> bool:
    """Whether the core lets it run at shared variables."""
    with pytest.raises(ValueError, match="must be") as caught:
        _core.check_move(name, 0, (), (), 0, "float64")
    return str(caught.value).startswith("shared must be one variable or more")


RULES = pushable()


def test_the_rules_are_found() -> None:
    assert {"axpy": 1, "nesterov": 2, "adam": 3, "elastic": 2, "compensate": 3}.items() <= RULES.items()


def split(given: dict[str, Any], name: str) -> tuple[list[Any], tuple[Any, ...], tuple[float, ...]]:
    """(shared, values, scalars) of an op's arguments; one that counts moves gets `step` elsewhere."""
    buffers = [value for value in given.values() if isinstance(value, np.ndarray)]
    scalars = tuple(float(value) for value in given.values() if not isinstance(value, np.ndarray))
    return (
        buffers[: RULES[name]],
        tuple(buffers[RULES[name] :]),
        scalars[:-1] if list(given)[-1] == "step" else scalars,
    )


@pytest.mark.parametrize("name", RULES)
@looped("on", [*carriers(1), *carriers(3)])
@looped("dtype", [np.float32, np.float64])
def test_a_rule_does_what_its_body_says(on: Transport, name: str, dtype: type) -> None:
    given = arguments(name, 6, dtype)
    starts, values, scalars = split(given, name)
    got: list[Any] = []

    def script(worker: Worker) -> Iterator[Request]:
        variables = tuple(worker.shared(f"v{place}", like=start) for place, start in enumerate(starts))
        if worker.rank == on.size - 1:
            for _ in range(3):
                yield Push(name, variables, values, scalars, arrived=True)
            for variable in variables:
                got.append(np.empty(6, dtype))
                yield Fetch(variable, into=got[-1])
        yield Barrier()

    ask(script, on, dtype=dtype)
    for step in range(1, 4):
        ops.specification[name](**(given | ({"step": step} if "step" in given else {})))
    check(got, starts)


@each(1, 2, 3, 5)
def test_every_move_has_a_number(on: Transport) -> None:
    """Of all the workers' pushes the first seven count, whoever comes first; and a reader learns how many came."""
    versions = {}

    def script(worker: Worker) -> Iterator[Request]:
        total, seen = worker.shared("total", like=np.zeros(6)), np.full(1, -1.0)
        for _ in range(9):
            yield Push("add_if_recent", (total,), (np.ones(6),), (0.0, 7.0), arrived=True)
        yield Barrier()
        yield Fetch(total, into=worker.params, version=seen)
        versions[worker.rank] = seen[0]

    check(ask(script, on), [np.full(6, 7.0)] * on.size)
    assert versions == dict.fromkeys(range(on.size), 9.0 * on.size)


@each(2, 3, 5)
def test_variables_that_move_together_stay_together(on: Transport) -> None:
    """However the workers name them, one is never seen ahead of the other by a rule."""

    def script(worker: Worker) -> Iterator[Request]:
        one, other = (worker.shared(name, like=np.zeros(3000)) for name in ("one", "other"))
        both = (one, other) if worker.rank % 2 else (other, one)
        for _ in range(20):  # c += 1, v = c: equal after every move, in either order
            yield Push("add_and_average", both, (np.ones(3000),), (1.0,), arrived=True)
        yield Barrier()
        first, second = np.empty(3000), np.empty(3000)
        yield Fetch(one, into=first)
        yield Fetch(other, into=second)
        worker.params[:] = [first.min(), first.max(), second.min(), second.max(), 0, 0]

    for seen in ask(script, on):
        assert seen[:4].tolist() == [20.0 * on.size] * 4


@each(1, 2, 5)
def test_a_worker_sees_what_it_pushed(on: Transport) -> None:
    """Though the center is busy with what others push."""

    def script(worker: Worker) -> Iterator[Request]:
        mine = [worker.shared(f"of {rank}", like=np.zeros(400)) for rank in range(worker.size)][worker.rank]
        for turn in range(1, 5):
            yield Push("axpy", (mine,), (np.ones(400),), (1.0,))
            seen = np.empty(400)
            yield Fetch(mine, into=seen)
            assert (seen == turn).all()

    ask(script, on)


def test_a_question_does_not_overtake_a_push_at_a_slow_center() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        total, seen = worker.shared("total", like=np.zeros(600)), np.empty(600)
        yield Push("axpy", (total,), (np.ones(600),), (1.0,))
        yield Fetch(total, into=seen)
        worker.params[:] = seen[0]

    ends = ask(script, ls.Simulated(4, latency=1e-3, center_bandwidth=1e5))
    assert [end[0] for end in ends] == [1, 2, 3, 4], "in the order of arrival, each its own"


def test_only_values_are_priced_and_counted() -> None:
    def script(worker: Worker) -> Iterator[Request]:
        c, z = (worker.shared(name, like=np.zeros(6)) for name in "cz")
        yield Push("lerp", (z, c), (), (0.5,))
        yield Push("nesterov", (c, z), (np.ones(6),), (0.1, 0.9))

    on = ls.Metered(ls.Simulated(2, step_time=1.0, latency=0.25, bandwidth=48.0, center_bandwidth=float("inf")))
    result = ls.run(Ask(script), lambda x, b: x * 0, np.zeros(6), lambda rank, n: iter([0.0]), on=on)
    assert on.meters[0].requests["Push"] == [2, 2, 48]
    assert result.seconds == pytest.approx(2.0, abs=1e-9), "a second for the values, one for the gradient"


# --- what does not fit -------------------------------------------------------------------------------------

FOUR = Shared("c", 4, np.dtype(np.float64), None)
OTHER = Shared("v", 4, np.dtype(np.float64), None)
FIVE, HALF = Shared("w", 5, np.dtype(np.float64), None), Shared("h", 4, np.dtype(np.float32), None)
ONES = np.ones(4)
BAD = [
    (("sgdd", (FOUR,), (ONES,), (1.0,)), ValueError, r"rule must be one of .*axpy.*, got 'sgdd'"),
    (("axpy", (), (ONES,), (1.0,)), ValueError, "shared must be one variable or more, got none"),
    (("axpy", (FOUR, OTHER, HALF), (), (1.0,)), ValueError, r"'h' \(4 float32\) cannot be moved together"),
    (("nesterov", (FOUR, FIVE), (ONES,), (1.0, 0.9)), ValueError, r"'w' \(5 float64\) cannot be moved together"),
    (("nesterov", (FOUR, FOUR), (ONES,), (1.0, 0.9)), ValueError, "'c' is named twice"),
    (("nesterov", (FOUR,), (ONES, ONES), (1.0, 0.9)), ValueError, "writes shared variables alone, .* writes v"),
    (("axpy", (FOUR,), (), (1.0,)), ValueError, "values must be x of rule 'axpy', got 0 buffers"),
    (("axpy", (FOUR,), (ONES, ONES), (1.0,)), ValueError, "values must be x of rule 'axpy', got 2 buffers"),
    (("axpy", (FOUR,), (ONES,), ()), ValueError, "scalars must be a of rule 'axpy', got 0 numbers"),
    (("axpy", (FOUR,), (ONES,), (1.0, 2.0)), ValueError, "scalars must be a of rule 'axpy', got 2 numbers"),
    (("axpy", (FOUR,), (ONES,), (float("nan"),)), ValueError, "a must be finite, got nan"),
    (("axpy", (FOUR,), (np.ones(5),), (1.0,)), ValueError, r"values\[0\] must be of 4 elements .*, got 5"),
    (("axpy", (FOUR,), (np.ones(4, np.float32),), (1.0,)), TypeError, r"values\[0\] must be float64 like"),
    (("axpy", (FOUR,), ([1.0] * 4,), (1.0,)), TypeError, r"values\[0\] must be a numpy array"),
    (("axpy", (FOUR,), (np.ones(8)[::2],), (1.0,)), ValueError, r"values\[0\] must be C-contiguous"),
    (("add_if_recent", (FOUR,), (ONES,), (0.0, 1.0, 3.0)), ValueError, "seen, most of rule .*, got 3 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "sentence"), BAD, ids=[row[-1] for row in BAD])
def test_what_does_not_fit_is_refused_before_anything_is_sent(given: Any, kind: Any, sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        Push(*given)
    assert "\n" not in str(caught.value)
