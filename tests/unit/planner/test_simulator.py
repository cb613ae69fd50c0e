"""Times and memory of programs, against closed forms."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from loosestep.planner.parallelism import (
    Degrees,
    Hardware,
    Linear,
    Link,
    Model,
    Op,
    Program,
    Training,
    chrome_trace,
    distributed,
    mlp,
    simulate,
    transformer,
)
from loosestep.planner.parallelism.program import COMPUTE, IN, OUT, Value
from loosestep.planner.parallelism.schedules import of_stage, passes

FREE = Link(0.0, inf)
MODEL = mlp(6, 8, 8, 8, 8, 4)


def hardware(**numbers: object) -> Hardware:
    """Only what is said costs anything."""
    free = {"flops": inf, "memory_bandwidth": inf, "memory": inf, "launch": 0.0, "within": FREE, "between": FREE}
    return Hardware(**{**free, **numbers})  # type: ignore[arg-type]


def test_one_device_takes_the_sum_of_its_operations() -> None:
    machine = Hardware(flops=1e9, memory_bandwidth=1e8)
    program = distributed(transformer(1, 8, 4, 3, 8), Training(8), Degrees(microbatches=2))
    told = simulate(program, machine)
    assert told.seconds == pytest.approx(sum(map(machine.seconds, program.ops)), rel=1e-12)
    assert all(before.end == after.begin for before, after in pairwise(told.events))


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 5), (4, 1), (4, 3), (4, 8), (7, 7)])
def test_a_pipeline_of_equal_stages_takes_m_plus_s_minus_one_times(
    schedule: str, stages: int, microbatches: int
) -> None:
    """Where a pass takes a second each way and transfers are free: 2 (M + S - 1) seconds."""
    program, ready = Program(), {}
    for stage, forward, m in passes(schedule, stages, microbatches):
        before = ready.get((stage - 1 if forward else stage + 1, forward, m))
        done = ready[stage, forward, m] = Value(stage, (), 0)
        program.ops.append(Op("matmul", () if before is None else (before,), (done,), ((stage, COMPUTE),)))
    assert simulate(program, hardware(launch=1.0)).seconds == 2 * (microbatches + stages - 1)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 1), (1, 4), (3, 2), (4, 9), (8, 8)])
def test_schedules_make_every_pass_once_and_in_an_order_that_can_be(
    schedule: str, stages: int, microbatches: int
) -> None:
    order = passes(schedule, stages, microbatches)
    place = {each: number for number, each in enumerate(order)}
    assert len(place) == len(order) == 2 * stages * microbatches
    for stage, forward, m in order:
        mine = place[stage, forward, m]  # type: ignore[index]
        assert not forward or stage == 0 or place[stage - 1, True, m] < mine  # type: ignore[index]
        assert forward or stage == stages - 1 or place[stage + 1, False, m] < mine  # type: ignore[index]
    for stage in range(stages):
        own = [(forward, m) for each, forward, m in order if each == stage]
        assert own == of_stage(schedule, stage, stages, microbatches)
        flying = [sum(1 if forward else -1 for forward, _ in own[:end]) for end in range(len(own) + 1)]
        assert max(flying) == (microbatches if schedule == "gpipe" else min(stages - stage, microbatches))


def test_replicas_divide_the_arithmetic_of_passes() -> None:
    def spent(degrees: Degrees) -> float:
        told = simulate(distributed(MODEL, Training(16), degrees), hardware(flops=1e3))
        of_first = [each for each in told.events if (0, COMPUTE) in each.op.occupies]
        return sum(each.end - each.begin for each in of_first if each.op.task[1] != "update")

    alone = spent(Degrees())
    assert [spent(Degrees(data=count)) for count in (2, 4, 8)] == pytest.approx([alone / 2, alone / 4, alone / 8])


def test_a_tensor_group_divides_the_products() -> None:
    def products(degrees: Degrees) -> float:
        program = distributed(MODEL, Training(16), degrees)
        mine = [op for op in program.ops if op.kind.startswith("matmul") and op.occupies == ((0, COMPUTE),)]
        return sum(op.flops for op in mine)

    alone = products(Degrees())
    assert [products(Degrees(tensor=count)) for count in (2, 4)] == pytest.approx([alone / 2, alone / 4])


@pytest.mark.parametrize("degrees", [Degrees(data=4), Degrees(tensor=4), Degrees(pipeline=3, microbatches=2)])
def test_twice_the_bandwidth_halves_the_time_of_communication(degrees: Degrees) -> None:
    program = distributed(MODEL, Training(16), degrees)
    once, twice = (
        simulate(program, hardware(within=Link(0.0, speed), between=Link(0.0, speed))).seconds
        for speed in (1e3, 2e3)
    )
    assert once == pytest.approx(2 * twice, rel=1e-12)
    assert once > 0


def test_collectives_take_what_a_ring_takes() -> None:
    machine = hardware(within=Link(3.0, 10.0), between=Link(7.0, 5.0))
    values = tuple(Value(device, (25,), 4) for device in range(4))

    def seconds(kind: str, group: int, *, between: bool) -> float:
        return machine.seconds(Op(kind, values, values, (), nbytes=100, group=group, between=between))

    assert seconds("all-reduce", 4, between=False) == 2 * 3 * (3 + 100 / 4 / 10)
    assert seconds("all-reduce", 4, between=True) == 2 * 3 * (7 + 100 / 4 / 5)
    assert seconds("all-gather", 4, between=False) == 3 * (3 + 100 / 10)
    assert seconds("send", 1, between=True) == 7 + 100 / 5


def test_arithmetic_takes_its_operations_or_its_bytes() -> None:
    machine = Hardware(flops=100.0, memory_bandwidth=10.0, launch=1.0)
    assert machine.seconds(Op("matmul", (), (), (), flops=500.0, nbytes=20.0)) == 1 + 5
    assert machine.seconds(Op("relu", (), (), (), flops=5.0, nbytes=20.0)) == 1 + 2


def test_sums_of_gradients_pass_while_earlier_layers_are_computed() -> None:
    """Two equal layers, sums that take as long as a backward pass: the last layer's is hidden."""
    model = Model((Linear(8, 8), Linear(8, 8)), 8)
    link = Link(0.5, inf)
    told = simulate(
        distributed(model, Training(2), Degrees(data=2)), hardware(launch=1.0, within=link, between=link)
    )
    sums = [each for each in told.events if each.op.kind == "all-reduce"]
    assert [each.op.label for each in sums] == ["gradients of layer 1", "gradients of layer 0"]
    backward = [each for each in told.events if each.op.task[1] == "backward" and each.op.between is None]
    assert sums[0].begin < backward[-1].begin
    assert sums[1].begin == backward[-1].end
    assert {each.op.occupies for each in sums} == {((0, OUT), (0, IN), (1, OUT), (1, IN))}


def activations(schedule: str, microbatches: int) -> int:
    """The most bytes on the first of 4 stages, of microbatches of 2 samples, without the inputs that lie there."""
    degrees = Degrees(pipeline=4, microbatches=microbatches, schedule=schedule)
    told = simulate(distributed(MODEL, Training(2 * microbatches), degrees), hardware())
    return told.peak[0] - 2 * microbatches * 6 * 4


def test_one_forward_one_backward_keeps_as_many_activations_as_there_are_stages() -> None:
    kept = activations("gpipe", 5) - activations("gpipe", 4)
    assert kept > 0
    more = [activations("gpipe", m) - activations("gpipe", 4) for m in (6, 8, 16)]
    assert more == [2 * kept, 4 * kept, 12 * kept]
    assert activations("1f1b", 3) == activations("gpipe", 3)
    assert activations("1f1b", 5) == activations("1f1b", 16) <= activations("gpipe", 5)


def test_memory_is_counted_to_the_last_reader() -> None:
    """y = relu(x W + b): W, b, their state, x, the class; then y, the loss and its gradient, and so on."""
    program = distributed(Model((Linear(2, 4),), 2), Training(3, 4, 8), Degrees())
    resident = (2 * 4 + 4) * (4 + 8) + 3 * 2 * 4 + 3 * 8
    scores = 3 * 4 * 4
    assert simulate(program, hardware()).peak == {0: resident + max(2 * scores + 4, scores + (4 + 2 * 4) * 4)}


def test_a_trace_has_a_row_for_what_each_operation_occupies() -> None:
    program = distributed(MODEL, Training(8), Degrees(data=2, pipeline=2, microbatches=2))
    told = simulate(program, Hardware())
    trace = chrome_trace(told)["traceEvents"]
    shown = [each for each in trace if each["ph"] == "X"]
    assert max(each["ts"] + each["dur"] for each in shown) == pytest.approx(told.seconds * 1e6)
    assert {each["pid"] for each in shown} == {0, 1, 2, 3}
    rows = {(each["pid"], each["tid"]) for each in shown}
    for row in rows:
        mine = sorted((each["ts"], each["dur"]) for each in shown if (each["pid"], each["tid"]) == row)
        assert all(begin + spent <= after + 1e-6 for (begin, spent), (after, _) in pairwise(mine))
    names = {(each["pid"], each["args"]["name"]) for each in trace if each["name"] == "thread_name"}
    assert names == {(device, name) for device in range(4) for name in (COMPUTE, OUT, IN)}
    assert {each["cat"] for each in shown} == {"forward", "backward", "update"}


def test_hardware_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError, match="flops must be above 0 and finite, got 0"):
        Hardware(flops=0)
    with pytest.raises(ValueError, match="latency must be at least 0 and finite, got -1"):
        Link(-1, 1e9)
    with pytest.raises(TypeError, match=r"within must be a Link, got 1e9|within must be a Link, got 1000000000.0"):
        Hardware(within=1e9)  # type: ignore[arg-type]
