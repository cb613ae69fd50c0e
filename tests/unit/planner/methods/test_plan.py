"""Which method and period is chosen, against the prices of the cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import loosestep as ls
from loosestep.planner.methods import Tariff, plan

CLUSTER = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
D = 250_000
AVERAGE = 2 * 0.01 + 2 * 3 / 4 * 4 * D / 1.25e7  # seconds


def test_the_shortest_period_that_hardly_waits_is_chosen() -> None:
    for waiting in (0.05, 0.1, 0.5):
        found = plan(D, CLUSTER, strategies=[ls.LocalSGD()], waiting=waiting)
        allowed = [period for period in (1, 2, 4, 8, 16, 32) if AVERAGE / (AVERAGE + 0.1 * period) <= waiting]
        assert found.best.strategy == ls.LocalSGD(allowed[0])
        assert found.average_seconds == pytest.approx(AVERAGE)


def test_where_all_wait_the_one_that_waits_least_is_chosen() -> None:
    found = plan(D, CLUSTER, strategies=[ls.LocalSGD()], waiting=0.001, periods=(1, 4))
    assert found.best.strategy == ls.LocalSGD(4)
    assert len(found.tried) == 2


def test_the_fastest_comes_first_and_a_codec_is_a_method_of_its_own() -> None:
    strategies = [ls.AllReduceSGD(), ls.LocalSGD(), ls.StreamingDiLoCo()]
    found = plan(D, CLUSTER, strategies=strategies, codecs=[ls.E3M0()])
    times = [each.step_seconds for each in found.ranked]
    assert times == sorted(times)
    assert isinstance(found.ranked[-1].strategy, ls.AllReduceSGD)
    streaming = [each.strategy for each in found.ranked if isinstance(each.strategy, ls.StreamingDiLoCo)]
    assert {each.codec for each in streaming} == {None, ls.E3M0()}
    assert len(streaming) == 2


def test_buckets_are_chosen_by_what_they_take() -> None:
    """Small ones are sent while others are computed; where that wins nothing, one is fewer messages."""
    sizes = (1 << 20, 100 << 20)
    near = ls.Simulated(4, step_time=0.5, latency=1e-5, bandwidth=1e9)
    far = ls.Simulated(4, step_time=1e-6, latency=0.0, bandwidth=1e7)
    for on, wanted in ((near, 1 << 20), (far, 100 << 20)):
        found = plan(10_000_000, on, strategies=[ls.AllReduceSGD(first_bytes=1 << 30)], buckets=sizes)
        assert found.best.strategy == ls.AllReduceSGD(bucket_bytes=wanted, first_bytes=1 << 30)


def test_with_known_steps_the_whole_run_counts() -> None:
    """Seconds are steps (0.1 + average / period): a long period that needs far more steps loses."""
    few = {ls.LocalSGD(1): 1000.0, ls.LocalSGD(16): 1100.0, ls.LocalSGD(256): 5000.0, ls.AllReduceSGD(): 1000.0}
    found = plan(D, CLUSTER, strategies=[ls.AllReduceSGD(), ls.LocalSGD(), ls.EASGD()], steps=few)
    assert found.best.strategy == ls.LocalSGD(16)
    assert found.best.steps == 1104
    assert found.best.seconds == pytest.approx(1104 * 0.1 + 69 * AVERAGE)
    assert [type(each.strategy) for each in found.ranked] == [ls.LocalSGD, ls.AllReduceSGD]
    assert {each.steps for each in found.tried if isinstance(each.strategy, ls.EASGD)} == {None}
    assert plan(D, CLUSTER, strategies=[ls.LocalSGD()]).to_loss(few).best == found.best


def test_objectives_disagree() -> None:
    """Twice the steps at a sixteenth of the bytes: bytes and dear links say one thing, dear workers another."""
    steps = {ls.LocalSGD(1): 1000.0, ls.LocalSGD(16): 4000.0}

    def best(minimize: Any, tariff: Tariff | None = None) -> Any:
        strategies = [ls.LocalSGD()]
        return plan(
            D, CLUSTER, strategies=strategies, periods=(1, 16), steps=steps, minimize=minimize, tariff=tariff
        ).best.strategy

    assert best("seconds") == ls.LocalSGD(1)
    assert best("bytes") == ls.LocalSGD(16)
    assert best("money", Tariff(worker_hour=1.0)) == ls.LocalSGD(1)
    assert best("money", Tariff(gigabyte=1.0)) == ls.LocalSGD(16)
    assert best("money", Tariff(worker_hour=1.0, gigabyte=1.0)) == ls.LocalSGD(16)


def test_the_sentence_has_the_numbers() -> None:
    strategies = [ls.AllReduceSGD(), ls.LocalSGD()]
    told = str(plan(D, CLUSTER, strategies=strategies))
    assert told == (
        "An average of 250,000 parameters takes 0.14 s between 4 workers, a local step 0.1 s: AllReduceSGD() "
        "waits 58% of its time, LocalSGD(period=16) computes 1.6 s between two communications and waits 8%."
    )
    steps = {ls.AllReduceSGD(): 100.0, ls.LocalSGD(16): 112.0}
    assert str(plan(D, CLUSTER, strategies=strategies, steps=steps)).endswith(
        "and waits 8%; it comes to the loss in 112 steps and 12.2 s, AllReduceSGD in 100 steps and 24 s."
    )
    fast = ls.Simulated(4, step_time=0.1, latency=1e-6, bandwidth=1e12)
    alone = str(plan(D, fast, strategies=strategies, steps=steps))
    assert "a local step 0.1 s: AllReduceSGD() waits <1%; it comes to the loss in 100 steps and 10 s." in alone
    coded = str(plan(D, CLUSTER, strategies=[ls.StreamingDiLoCo(codec=ls.E3M0())]))
    assert "with 4.25 bits a value" in coded


def test_a_module_says_how_many_parameters_are_trained() -> None:
    tensors = [SimpleNamespace(numel=lambda: 7, requires_grad=grad) for grad in (True, False, True)]
    module = SimpleNamespace(parameters=lambda: iter(tensors))
    assert plan(module, CLUSTER, strategies=[ls.LocalSGD()]).parameters == 14


def test_wider_parameters_take_longer_to_average_and_to_send() -> None:
    narrow, wide = (plan(D, CLUSTER, strategies=[ls.LocalSGD()], dtype=dtype) for dtype in ("float32", "float64"))
    assert wide.average_seconds - 2 * 0.01 == pytest.approx(2 * (narrow.average_seconds - 2 * 0.01))
    assert wide.tried[0].bytes_a_step == 2 * narrow.tried[0].bytes_a_step


def test_what_cannot_be_predicted_is_named() -> None:
    found = plan(100, CLUSTER, strategies=[ls.AdaptiveLocalSGD(), ls.LocalSGD()])
    assert [strategy for strategy, _ in found.refused] == [ls.AdaptiveLocalSGD()]
    everything = plan(100, CLUSTER, periods=(8,))
    assert {ls.DBS(), ls.OneShotAveraging()} <= {strategy for strategy, _ in everything.refused}
    assert len(everything.ranked) > 20


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"strategies": [ls.AdaptiveLocalSGD()]},
            "none of the strategies can be predicted: what AdaptiveLocalSGD",
        ),
        ({"strategies": []}, "strategies must hold at least one"),
        ({"waiting": 1.5}, "waiting must be at most 1"),
        ({"minimize": "time"}, "minimize must be one of 'seconds', 'bytes', 'money'"),
        ({"minimize": "money"}, "needs a tariff whose worker_hour or gigabyte"),
        ({"model": 0}, "model must be at least 1"),
        ({"strategies": [ls.LocalSGD()], "steps": {ls.EASGD(): 5.0}}, "at least one of the strategies"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan(**{"model": 100, "on": CLUSTER, **options})
