"""What workers agree on between steps, and errors that say where each is; under all sorts of methods."""

from __future__ import annotations

import copy
import re
import time
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import batches, loss_of, mlp, parallel, seeded, train  # noqa: E402
from tests.unit.in_threads import together  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import LoosestepError, Mismatch, PeerFailed  # noqa: E402

SORTS = (
    *(ls.AllReduceSGD(), ls.LocalSGD(4), ls.StreamingDiLoCo(3, fragments=2), ls.CDSGD(), ls.SyncEASGD(3)),
    *(ls.EASGD(3), ls.Downpour(2), ls.SSP(2), ls.DecoupledDiLoCo(3, fragments=1), ls.AsyncLocalSGD(2)),
)
each_sort = pytest.mark.parametrize("strategy", SORTS, ids=repr)
MARCHING = [each for each in SORTS if each.synchronous]
ON_TWO_HOSTS = ((0,), (1,))


def made(on: Any, strategy: ls.Strategy | None = None, **options: Any) -> Any:
    net = mlp()
    inner = torch.optim.SGD(net.parameters(), 0.05)
    return net, loosestep.torch.parallel(net, inner, strategy or ls.LocalSGD(4), on, **options)


def steps(net: Any, optimizer: Any, count: int) -> None:
    for x, y in batches(count):
        optimizer.zero_grad()
        loss_of(net, x + optimizer.rank, y).backward()
        optimizer.step()


# --- values ------------------------------------------------------------------------------------------------


@each_sort
def test_all_agree_under_every_sort_of_strategy(strategy: ls.Strategy) -> None:
    """Workers come at other times; one-sided ones at other steps as well."""

    def run(on: Any) -> Any:
        net, optimizer = made(on, strategy)
        with optimizer:
            steps(net, optimizer, 5 + on.rank * (not (strategy.synchronous or strategy.attends)))
            time.sleep(0.05 * on.rank)
            loss = torch.tensor([1.0, 0.25 + on.rank], dtype=torch.float32)
            found = [
                optimizer.mean(on.rank),
                optimizer.mean({"b": loss, "a": np.arange(2) * on.rank}, weight=1 + on.rank),
                optimizer.gather({"rank": on.rank, "all": (1, 2)}),
                optimizer.agree(["of", on.rank]),
                optimizer.once(lambda: next(net.parameters()).sum().item(), everywhere=True),
            ]
            optimizer.barrier()
            steps(net, optimizer, 2)
            assert optimizer.worker.calling == ""
            return found

    one, other = together(2, run)
    assert one[0] == 0.5
    assert one[1]["b"].tolist() == [1.0, np.float32((0.25 + 2 * 1.25) / 3)]
    assert (list(one[1]), one[1]["b"].dtype) == (["b", "a"], torch.float32)
    assert one[1]["a"].tolist() == [0.0, 2 / 3]
    assert one[2] == [{"rank": 0, "all": (1, 2)}, {"rank": 1, "all": (1, 2)}]
    assert one[3] == ["of", 0]
    assert isinstance(one[4], float)
    assert repr(one) == repr(other)


def test_a_mean_is_a_left_fold_in_float64_with_the_same_bits_for_all() -> None:
    values = [0.1, 1e16, -1e16]
    for hosts in (None, ((0,), (1,), (2,))):
        found = together(3, lambda on: agreed(on, lambda optimizer: optimizer.mean(values[on.rank])), hosts=hosts)
        assert found == [((0.1 + 1e16) - 1e16) / 3] * 3


def agreed(on: Any, call: Any) -> Any:
    with made(on)[1] as optimizer:
        return call(optimizer)


def test_one_worker_alone_gets_its_own() -> None:
    with parallel() as optimizer:
        tensor = torch.tensor([3, 4])
        assert optimizer.mean(True) == 1.0
        assert optimizer.mean({"x": {"y": tensor}})["x"]["y"].tolist() == [3.0, 4.0]
        assert optimizer.mean(np.float32(0.5), weight=7) == 0.5
        assert (optimizer.gather(3), optimizer.agree("a")) == ([3], "a")
        assert optimizer.once(int, "7", everywhere=True) == 7
        assert optimizer.once(int, "7", base=8) == optimizer.once(int, "7", base=8, everywhere=True) == 7
        optimizer.barrier()
    for call in (optimizer.barrier, lambda: optimizer.mean(1.0), lambda: optimizer.once(int, everywhere=True)):
        with pytest.raises(RuntimeError, match=r"^the run has ended: (barrier|mean|once)\(\) belongs inside the"):
            call()


def test_what_has_no_mean_is_refused() -> None:
    with parallel() as optimizer:
        for value, words in (("x", "x is str"), ({"a": [1]}, r"x\['a'\] is list"), (1j, "x is complex")):
            with pytest.raises(TypeError, match=f"^mean.. takes numbers, numpy arrays, tensors.*: {words}$"):
                optimizer.mean(value)
        with pytest.raises(ValueError, match="^mean.. has weight 0 on all workers"):
            optimizer.mean(1.0, weight=0)


def test_nothing_is_looked_at_of_weight_zero() -> None:
    found = together(
        2, lambda on: agreed(on, lambda o: o.mean(float("nan") if on.rank else 2.0, weight=1 - on.rank))
    )
    assert found == [2.0, 2.0]


def test_workers_that_give_different_things_are_told() -> None:
    said = r"^mean\(\) was given x\['acc'\] as a number by worker 0, and x\['loss'\] as a number by worker 1$"

    def run(on: Any) -> None:
        with made(on)[1] as optimizer, pytest.raises(Mismatch, match=said):
            optimizer.mean({"loss" if on.rank else "acc": 1.0})

    together(2, run)


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.EASGD(4)], ids=repr)
def test_one_evaluation_has_one_answer_or_one_error_for_all(strategy: ls.Strategy) -> None:
    """After an error all go on."""
    asked: list[int] = []

    def run(on: Any) -> Any:
        net, optimizer = made(on, strategy)
        with optimizer:
            steps(net, optimizer, 3)
            with pytest.raises(Exception, match="no such file") as failed:
                optimizer.once(lambda: open_nothing(asked), everywhere=True)
            with pytest.raises(Exception, match="pickle"):
                optimizer.once(lambda: lambda: None, everywhere=True)
            steps(net, optimizer, 3)
            return type(failed.value), optimizer.once(lambda: len(asked), everywhere=True)

    assert together(2, run) == [(OSError, 1), (RuntimeError, 1)]


def open_nothing(asked: list[int]) -> None:
    asked.append(1)
    raise OSError("no such file")


# --- two that are not the same -----------------------------------------------------------------------------


def pair(calls: list[Any], strategy: ls.Strategy, counts: tuple[int, int] = (4, 4), **how: Any) -> list[str]:
    """What two workers say who make different calls after so many steps."""

    def run(on: Any) -> None:
        net, optimizer = made(on, strategy)
        with optimizer:
            steps(net, optimizer, counts[on.rank])
            calls[on.rank](net, optimizer)

    return [f"{type(each).__name__}: {each}" for each in together(2, run, errors=True, **how)]


CALLS = {
    "save()": lambda net, optimizer: optimizer.save("nowhere"),
    "restore()": lambda net, optimizer: optimizer.restore("nowhere"),
    "mean()": lambda net, optimizer: optimizer.mean(1.0),
    "barrier()": lambda net, optimizer: optimizer.barrier(),
    "once()": lambda net, optimizer: optimizer.once(int),
    "agree()": lambda net, optimizer: optimizer.agree(3),
}
AGREE = r"all workers must make the same calls, each at one step and none under `if optimizer\.rank == 0`"


@pytest.mark.parametrize("hosts", [None, ON_TWO_HOSTS], ids=["one host", "two hosts"])
@pytest.mark.parametrize(
    ("one", "other"), [("save()", "mean()"), ("barrier()", "once()"), ("agree()", "restore()")]
)
def test_two_calls_never_match(one: str, other: str, hosts: Any) -> None:
    for said in pair([CALLS[one], CALLS[other]], ls.LocalSGD(4), hosts=hosts):
        words = rf"worker 0 is in {re.escape(one)} after step 4; worker 1 is in {re.escape(other)} after step 4"
        assert re.match(rf"Mismatch: {words}: {AGREE}", said), said


@pytest.mark.parametrize("call", ["save()", "mean()", "once()", "barrier()"])
def test_one_call_at_two_steps_is_refused(call: str) -> None:
    """Epochs of 17 and 16 batches: the first meeting says so, not the fourth."""
    for said in pair([CALLS[call], CALLS[call]], ls.LocalSGD(4), (5, 4)):
        words = rf"worker 0 is in {re.escape(call)} after step 5; worker 1 is in {re.escape(call)} after step 4"
        assert re.match(rf"Mismatch: {words}: {AGREE}", said), said


@pytest.mark.parametrize(
    ("call", "strategy", "hosts"),
    [
        *(("mean()", ls.LocalSGD(2), None), ("save()", ls.DiLoCo(2), None), ("once()", ls.AllReduceSGD(), None)),
        ("once()", ls.LocalSGD(2), ON_TWO_HOSTS),
    ],
    ids=str,
)
def test_a_call_that_meets_a_step_is_named(call: str, strategy: ls.Strategy, hosts: Any) -> None:
    def go_on(net: Any, optimizer: Any) -> None:
        steps(net, optimizer, 4)

    for said in pair([CALLS[call], go_on], strategy, hosts=hosts):
        assert f"worker 0 is in {call} after step 4; worker 1 is in step() " in said, said


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.EASGD(4)], ids=repr)
def test_who_has_left_the_loop_is_named(strategy: ls.Strategy) -> None:
    """Rank 0 stops early: the others learn it where they wait for it, in seconds."""
    said = pair([lambda net, optimizer: None, CALLS["mean()"]], strategy)
    assert "worker 0 has left the loop, after step 4; worker 1 is in mean() after step 4" in said[1], said


# --- what holds something else than it says --------------------------------------------------------------


def test_a_copy_among_the_arguments_is_refused() -> None:
    def run(on: Any) -> Any:
        net, optimizer = made(on, ls.LocalSGD(50))
        kept: list[Any] = []
        with optimizer:
            steps(net, optimizer, 3)
            earlier = copy.deepcopy(net.state_dict())
            steps(net, optimizer, 3)
            optimizer.once(kept.append, net.state_dict())
            optimizer.once(kept.append, {"epoch": 3, "model": net.state_dict()})
            optimizer.once(kept.append, earlier)  # of an earlier time: that is what was meant
            clones = {name: value.clone() for name, value in net.state_dict().items()}
            halves = {"model": {name: value.half() for name, value in net.state_dict().items()}}
            if on.rank:
                for _ in range(4):
                    optimizer.once(kept.append, None)
                return None
            for copied in (clones, halves):
                with pytest.raises(ValueError, match=r"hold a copy of '0\.weight' that was made before the cons"):
                    optimizer.once(kept.append, copied)
                with pytest.raises(ValueError, match=r"hold a copy of '0\.weight'"):
                    optimizer.once(dict, state=copied)
            return len(kept)

    assert together(2, run) == [3, None]


def test_copies_of_a_model_are_inert(tmp_path: Any) -> None:
    """They take no hook along that belongs to the run, under strategies that watch the forward pass too."""
    for strategy in (
        ls.AdaptiveLocalSGD(distance=None, time_share=0.1),
        ls.DBS(),
        ls.AllReduceSGD(),
        ls.LocalSGD(2),
    ):
        net = mlp()
        with parallel(net, strategy) as optimizer:
            sampler = optimizer.shard(16, 2)
            averaged = torch.optim.swa_utils.AveragedModel(net)
            torch.save(net, tmp_path / "model.pt")
            twins = [copy.deepcopy(net), averaged, torch.load(tmp_path / "model.pt", weights_only=False)]
            for (x, y), _ in zip(batches(3), sampler, strict=False):
                optimizer.zero_grad()
                loss_of(net, x, y).backward()
                for twin in twins:
                    loss_of(twin, x, y).backward()
                optimizer.step()
            assert optimizer.model.steps == 3


def test_a_failure_elsewhere_ends_a_call_at_once() -> None:
    def run(on: Any) -> None:
        net, optimizer = made(on)
        with optimizer:
            steps(net, optimizer, 1)
            if on.rank:
                raise KeyError("rows")
            optimizer.mean(1.0)

    failed, raised = together(2, run, errors=True)
    assert isinstance(failed, PeerFailed)
    assert isinstance(raised, KeyError)
    assert isinstance(failed, LoosestepError)


# --- the end -----------------------------------------------------------------------------------------------


@each_sort
def test_all_stop_after_one_step(strategy: ls.Strategy) -> None:
    """One worker asks; those that march stop at once together, and save there."""

    def run(on: Any) -> Any:
        net, optimizer = made(on, strategy)
        with optimizer:
            for number in range(10_000):
                steps(net, optimizer, 1)
                if on.rank == 1 and number == 6:
                    optimizer.stop()
                if optimizer.stopping:
                    break
            assert optimizer.stopping
            optimizer.barrier()
            return optimizer.worker.clock

    one, other = together(2, run)
    assert one < 9_999
    assert one == other or not (strategy.synchronous or strategy.attends), (one, other)


def test_a_worker_that_has_left_does_not_hold_up_a_stop() -> None:
    def run(on: Any) -> Any:
        net, optimizer = made(on, ls.EASGD(2))
        with optimizer:
            while not optimizer.stopping:
                steps(net, optimizer, 1)
                if on.rank == 1:
                    return 1
                if optimizer.worker.clock == 5:
                    optimizer.stop()
            return optimizer.worker.clock

    assert together(2, run)[1] == 1


def test_a_loop_that_does_not_look_is_not_stopped() -> None:
    net = seeded(0)
    with parallel(net) as optimizer:
        optimizer.stop()
        train(net, optimizer, batches(3))
        assert optimizer.stopping
