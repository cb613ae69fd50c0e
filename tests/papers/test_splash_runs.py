"""Splash: what a run gives, how it goes on, and what it refuses."""

from __future__ import annotations

import importlib
import re
import signal
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.papers.test_splash import ROWS, broken, count, descend, recount, squared

import loosestep as ls
from loosestep import splash
from loosestep.foundation.errors import CheckpointError, Diverged, TimedOut, WorkerFailed


class Columns:
    """A table that is asked by the names of its columns."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, name: object) -> Any:
        return {"x": [1, 2]}[name]  # type: ignore[index]


# --- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (broken, "worker 1 failed in round 1, at sample 5: ValueError: 'v' is not declared: shared has 'w'"),
        (lambda s, m, v, own: v["v"], r"at sample \d+: ValueError: 'v' is not declared"),
        (
            lambda s, m, v, own: v.add("w", [1, 2]),
            r"add of a value of shape \(2,\) does not fit 'w' of shape \(3,\)",
        ),
        (lambda s, m, v, own: v.delayed_add("w", [1, 2]), r"delayed_add of a value of shape \(2,\) does not fit"),
        (lambda s, m, v, own: v.multiply("w", 2, at=9), "multiply .* does not fit 'w' of shape .*, at 9: index 9"),
        (
            lambda s, m, v, own: v.add("w", [1j], [1]),
            "add of .* does not fit .*: real numbers are wanted, got comp",
        ),
        (
            lambda s, m, v, own: v.multiply("w", [1j], [1]),
            "multiply of .*: real numbers are wanted, got complex128",
        ),
        (lambda s, m, v, own: v.delayed_add("w", "1"), "delayed_add of .*: real numbers are wanted, got <U1"),
        (lambda s, m, v, own: v.__setitem__("w", 1), "'w' can be changed by add, delayed_add and multiply"),
        (lambda s, m, v, own: v["w"].fill(0), "read-only"),
        (lambda s, m, v, own: own["x"], "worker . failed in round 1, at sample .*: KeyError"),
    ],
)
def test_errors_of_the_users_function_name_the_worker_and_the_sample(wrong: Any, words: str) -> None:
    with pytest.raises(WorkerFailed, match=words):
        splash.run(wrong, ROWS, {"w": np.zeros(3)}, on=ls.Simulated(4))


def test_what_is_not_finite_is_named() -> None:
    def grow(row: Any, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> float:
        with np.errstate(over="ignore"):
            shared.multiply("u", 1e200)
        return 1.0

    with pytest.raises(Diverged, match="the values of 'u' of worker 0 are not finite at step 1") as found:
        splash.run(grow, ROWS, {"w": np.zeros(3), "u": 1.0}, rounds=4)
    assert (found.value.rank, found.value.step) == (0, 1)
    with pytest.raises(Diverged, match=r"the losses at sample \d+ of worker 0 are not finite at step 1"):
        splash.run(lambda *_: np.nan, ROWS, {"w": np.zeros(3)})


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"process": 3}, TypeError, "process must be a function of .sample, weight, shared, local., got 3"),
        ({"samples": []}, ValueError, "samples must hold at least one, got none"),
        ({"samples": 5}, TypeError, "samples must be a sequence, or a function of .rank, size., got 5"),
        ({"samples": {0: 1}}, TypeError, "samples must be a sequence, or a function of .rank, size., got {0: 1}"),
        (
            {"samples": np.array(1.0)},
            TypeError,
            "samples must be a sequence, or a function of .rank, size., got arr",
        ),
        (
            {"samples": Columns()},
            TypeError,
            "samples must give each of 2 by its number from 0, got KeyError for 0",
        ),
        ({"samples": lambda rank, size: None}, TypeError, r"samples.0, 2. must return a sequence, got None"),
        ({"shared": {"w": [[1], [1, 2]]}}, ValueError, "shared 'w' must be an array or a number, got .*1, 2"),
        ({"shared": {"w": 1e300}, "dtype": "float32"}, ValueError, "must be finite .*, got 1e.300 as float32"),
        ({"dtype": "real"}, TypeError, "dtype must be float32 or float64, got 'real'"),
        ({"shuffle": "no"}, ValueError, "shuffle must be one of True, False, got 'no'"),
        ({"group": list}, WorkerFailed, "worker 0 failed .*, at the group of sample 0: TypeError: unhashable"),
        (
            {"loss": squared, "evaluate": lambda variables: {"loss": 1}},
            WorkerFailed,
            "evaluate must not return 'loss', which is the mean of loss",
        ),
        ({"shared": {}}, TypeError, "shared must be a mapping of names to arrays or numbers, at least one"),
        ({"shared": {"w": "x"}}, TypeError, "shared 'w' must be real numbers, got <U1"),
        ({"shared": {"w": np.inf}}, ValueError, "shared 'w' must be finite numbers, at least one, got inf"),
        ({"shared": {1: 1.0}}, TypeError, "shared must have names that are texts, got 1"),
        ({"passes": 0}, ValueError, "passes must be at least 1, got 0"),
        ({"rounds": 1.5}, TypeError, "rounds must be an integer, got 1.5"),
        ({"degree": 3}, ValueError, "degree must be in 1 .. 2, got 3"),
        ({"degree": "auto"}, ValueError, "degree must be 'tune', None or an integer, got 'auto'"),
        ({"degree": "tune"}, ValueError, "degree='tune' needs loss, by which degrees are compared"),
        ({"dtype": "int64"}, TypeError, "dtype must be float32 or float64, got int64"),
        ({"on": ls.Threads}, TypeError, "on must be a Transport, got .*did you mean Threads"),
        ({"loss": 1}, TypeError, "loss must be a function of .sample, shared, local., got 1"),
        ({"group": 1}, TypeError, "group must be a function of a sample, got 1"),
        ({"evaluate": 1}, TypeError, "evaluate must be a function of the variables, got 1"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(changed: dict[str, Any], kind: type[Exception], words: str) -> None:
    given: dict[str, Any] = {"process": descend, "samples": ROWS, "shared": {"w": np.zeros(3)}, **changed}
    with pytest.raises(kind, match=words):
        splash.run(**{"on": ls.Simulated(2), **given})


def test_a_loss_is_returned_for_all_samples_or_for_none() -> None:
    answers = iter([1.0, None] * 24)
    with pytest.raises(WorkerFailed, match="a loss for every sample or for none, got 24 from 48 samples"):
        splash.run(lambda *_: next(answers), ROWS, {"w": np.zeros(3)})


# --- what a run gives ----------------------------------------------------------------------------------------


def test_evaluations_have_the_loss_of_all_samples_and_the_users_metrics() -> None:
    result = splash.run(
        descend, ROWS, {"w": np.zeros(3), "b": 0.5}, on=ls.Simulated(4), passes=2, rounds=2, loss=squared, every=2,
        evaluate=lambda variables: {"b": float(variables["b"]), "size": variables["w"].size},
        callback=(seen := []).append,
    )  # fmt: skip
    assert [(at.step, at.metrics["size"], at.metrics["b"]) for at in seen] == [(2, 3, 0.5), (4, 3, 0.5)]
    w = result.variables["w"]
    assert result.metrics["loss"] == pytest.approx(np.mean([((w - row) ** 2).sum() / 2 for row in ROWS]))
    assert (result.steps, result.samples, result.virtual) == (4, 96, True)
    assert not result.variables["w"].flags.owndata, "a view of params"


def test_samples_may_be_each_workers_own() -> None:
    def mine(rank: int, size: int) -> list[int]:
        return [rank] * (rank + 1)

    begun = {"counts": np.zeros(3), "total": [0]}
    result = splash.run(count, mine, begun, on=ls.Simulated(3))
    assert result.variables["counts"].tolist() == [1, 2, 3]


def test_each_workers_own_samples_have_local_variables_of_their_own() -> None:
    def note(sample: int, weight: float, shared: splash.Variables, local: dict[str, int]) -> None:
        local["seen"] = sample

    result = splash.run(note, lambda rank, size: [10 * rank, 10 * rank + 1], {"v": 0}, on=ls.Simulated(2))
    assert {key: local["seen"] for key, local in result.local.items()} == {
        (0, 0): 0, (0, 1): 1, (1, 0): 10, (1, 1): 11,
    }  # fmt: skip


def test_a_worker_that_hangs_is_named() -> None:
    def sleep(row: Any, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
        if (row == ROWS[1]).all():
            time.sleep(1.5)

    with pytest.raises(TimedOut, match=r"worker 0 waited 0.3 s at AllReduce.* for worker 1, which is at Gradient"):
        splash.run(sleep, ROWS, {"w": np.zeros(3)}, on=ls.Threads(2, deadline=0.3))


def test_an_interrupted_run_has_its_result_so_far() -> None:
    def stop(row: Any, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
        local["seen"] = True
        shared.add("n", weight)
        if shared["n"] == 30:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(ls.Interrupted) as found:
        splash.run(stop, ROWS, {"n": 0}, rounds=4)
    result = found.value.result
    assert isinstance(result, splash.SplashResult)
    assert result.variables["n"] == len(result.local) == 36


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variables_have_the_dtype_that_is_asked_for(dtype: str) -> None:
    result = splash.run(descend, ROWS, {"w": [0, 0, 0]}, dtype=dtype)
    assert result.variables["w"].dtype == dtype


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def run(**options: Any) -> splash.SplashResult:
        return splash.run(
            descend, ROWS, {"w": np.zeros(3)}, on=ls.Simulated(8), passes=4, rounds=2, degree="tune", loss=squared,
            every=3, **options,
        )  # fmt: skip

    whole = run()
    folder = tmp_path / "saved"
    part = run(checkpoint=folder, stop=lambda at: at.step >= 3)
    assert 3 <= part.steps < whole.steps
    rest = run(checkpoint=folder, resume=True)
    assert (rest.variables["w"] == whole.variables["w"]).all()
    assert rest.degrees == whole.degrees
    again = run(checkpoint=folder, resume=True)
    assert (again.variables["w"] == whole.variables["w"]).all()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"passes": 3}, {"degree": 1}])
def test_another_run_is_not_resumed(changed: dict[str, Any], tmp_path: Path) -> None:
    """With another seed some samples would be processed twice and others never."""
    given: dict[str, Any] = {"on": ls.Simulated(2), "checkpoint": tmp_path / "saved", "passes": 2}
    splash.run(descend, ROWS, {"w": np.zeros(3)}, every=1, stop=lambda at: at.step >= 1, **given)
    with pytest.raises(CheckpointError, match=r"splash\.run\(process=<function descend>, .* samples=48, shared="):
        splash.run(descend, ROWS, {"w": np.zeros(3)}, resume=True, **{**given, **changed})


@pytest.mark.parametrize("process", [recount, lambda s, m, v, own: own.update(x=1)])
def test_a_checkpoint_that_would_lose_something_is_refused(process: Any, tmp_path: Path) -> None:
    begun = {"counts": [0], "total": [0]}
    with pytest.raises(WorkerFailed, match=r"sample 0 has a local variable or .* run without checkpoint"):
        splash.run(process, [0], begun, checkpoint=tmp_path / "saved")


@pytest.mark.parametrize(
    ("example", "options", "most"),
    [
        ("logistic", {"rows": 1500, "passes": 3, "rate": 0.3}, 0.45),
        ("topics", {"documents": 30, "topics": 4, "passes": 12}, 100),
        ("ratings", {"ratings": 4000, "passes": 8}, 1.0),
    ],
)
def test_the_examples_learn(example: str, options: dict[str, Any], most: float, capsys: Any) -> None:
    """The loss, the perplexity, the error that each prints; without learning 0.69, 300 and 2."""
    importlib.import_module(example).main(Namespace(**options))
    found = re.search(r"[\d.]+", capsys.readouterr().out)
    assert found
    assert float(found[0]) < most
