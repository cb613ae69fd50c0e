"""Small real jobs to which one of the kinds of fault in `kinds/` happens: how they end, and what goes on.

A few belong to every run of the tests; `CHAOS_SEED=7 CHAOS_TRIALS=100 pytest -m chaos tests/chaos` draws others.
"""

from __future__ import annotations

import json

import pytest
from tests.chaos import short
from tests.chaos.kind import OUTSIDE, found
from tests.chaos.seeds import NAMES, SEED, TRIAL, TRIALS
from tests.chaos.spec import SORTS, Spec, draw
from tests.chaos.trial import carry_out_apart, namespaces
from tests.mpi.jobs import mpi_is_here

KINDS = found()


def drawn() -> list[Spec]:
    """The trials of the seed, or the one that is to be done again."""
    if TRIAL:
        return [Spec.parse(TRIAL)]
    return [draw(SEED, number, NAMES or sorted(KINDS)) for number in range(TRIALS)]


@pytest.fixture(scope="session")
def _apart() -> None:
    if not mpi_is_here():
        pytest.skip("pip install 'loosestep[mpi]'")
    if namespaces() is None:
        pytest.skip("trials need namespaces of their own (unshare --mount --pid), which this user may not make")


def check(spec: Spec) -> None:
    """Fails with what was wrong, and with the command that does it again."""
    if spec.loop == "torch":
        pytest.importorskip("torch")
    told = carry_out_apart(spec)
    if told["problems"]:
        again = f"CHAOS_TRIAL='{spec}' pytest -n0 -m chaos tests/chaos/test_trials.py"
        wrong = "\n  ".join(told.pop("problems"))
        pytest.fail(f"{spec}\n  {wrong}\nagain:\n  {again}\n{json.dumps(told, indent=1)}", pytrace=False)


@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize("text", short.TRIALS)
def test_a_job_and_a_fault(text: str) -> None:
    check(Spec.parse(text))


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize("spec", drawn(), ids=str)
def test_a_drawn_job_and_a_fault(spec: Spec) -> None:
    check(spec)


def test_a_seed_draws_the_same_trials_again_and_every_kind_before_one_comes_twice() -> None:
    names, count = sorted(KINDS), len(KINDS)
    trials = [draw(3, number, names) for number in range(2 * count)]
    assert trials == [draw(3, number, names) for number in range(2 * count)]
    assert sorted(spec.kind for spec in trials[:count]) == names
    assert len({draw(seed, 0, names) for seed in range(20)}) > 15
    for spec in trials:
        assert Spec.parse(str(spec)) == spec
        assert 0 <= spec.rank < spec.ranks
        assert sum(spec.hosts) in (0, spec.ranks)


def test_the_kinds_and_the_jobs_are_many() -> None:
    """Nothing that `draw` leaves out by mistake: every sort of strategy, both loops, one host and several."""
    assert len(KINDS) > 60
    assert sum(each.when == OUTSIDE for each in KINDS.values()) > 25
    trials = [draw(0, number, sorted(KINDS)) for number in range(400)]
    for names in SORTS.values():
        assert {spec.strategy for spec in trials} >= set(names)
    assert {(spec.loop, bool(spec.hosts)) for spec in trials} >= {
        (loop, several) for loop in ("library", "torch") for several in (False, True)
    }


@pytest.mark.parametrize("text", ["", "strategy=EASGD", "kind=raises colour=red", "raises", "kind=raises ranks=x"])
def test_a_text_that_is_no_trial_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="kind=raises|invalid literal|dictionary"):
        Spec.parse(text)
