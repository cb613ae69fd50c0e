"""Draws in files: what is kept, what a kill leaves, what is read back, and the statistics of known chains."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.runtime.sampling.samples import Samples


def filled(folder: Path, draws: Any, **options: int) -> Samples:
    """Chains (chains, draws, parameters), as workers record them."""
    samples = Samples(folder, **options)
    for rank, chain in enumerate(draws):
        for step, params in enumerate(chain):
            samples.record(rank, step, params)
    return samples


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_due_is_kept_and_mapped(tmp_path: Path, dtype: type) -> None:
    draws = np.random.default_rng(0).standard_normal((2, 20, 3)).astype(dtype)
    samples = filled(tmp_path / "new", draws, burn_in=5, thin=4)
    assert samples.draws().dtype == dtype
    assert (samples.draws() == draws[:, 5::4]).all()
    assert samples.chain("worker-00001")["step"].tolist() == [5, 9, 13, 17]
    assert all(isinstance(chain, np.memmap) and not chain.flags.writeable for chain in samples.chains())
    assert (Samples(tmp_path / "new").draws() == samples.draws()).all(), "another process reads the same"


def test_a_part_of_a_draw_that_a_kill_leaves_is_dropped(tmp_path: Path) -> None:
    draws: Any = np.arange(12.0).reshape(1, 4, 3)
    filled(tmp_path, draws)
    with (tmp_path / "worker-00000.chain").open("ab") as file:
        file.write(b"half")
    again = Samples(tmp_path)
    assert (again.draws() == draws).all()
    again.record(0, 4, np.full(3, 9.0))
    assert again.draws()[0, :, 0].tolist() == [0, 3, 6, 9, 9]


def test_a_disk_that_takes_a_part_of_a_draw_leaves_whole_ones(tmp_path: Path) -> None:
    """Whoever makes room and goes on must not find the rest shifted by that part."""
    samples = filled(tmp_path, np.arange(3.0).reshape(1, 1, 3))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step in (1, 0):  # a next one, and one that is made again
        whole = 32 * step
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 10, before[1]))
        try:
            with pytest.raises(OSError, match=r"worker-00000.chain: the disk is full, and took a part of a draw"):
                samples.record(0, step, np.full(3, 7.0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / "worker-00000.chain").stat().st_size == whole
    for step in (0, 1):
        samples.record(0, step, np.full(3, 8.0 + step))
    assert samples.draws()[0, :, 0].tolist() == [8, 9]


def test_two_runs_that_write_to_one_folder_are_told(tmp_path: Path) -> None:
    one, other = Samples(tmp_path), Samples(tmp_path)
    for each in (one, other):
        each.begin()
    one.record(0, 0, np.zeros(1))
    other.record(0, 1, np.zeros(1))
    with pytest.raises(
        OSError, match=r"worker-00000.chain was written by another run meanwhile: give each a folder"
    ):
        one.record(0, 1, np.zeros(1))


def test_the_same_samples_may_keep_another_run_when_their_folder_was_removed(tmp_path: Path) -> None:
    samples = filled(tmp_path / "draws", np.zeros((2, 5, 1)))
    shutil.rmtree(tmp_path / "draws")
    samples.begin()
    samples.record(0, 0, np.ones(1))
    assert samples.draws().tolist() == [[[1.0]]]


def test_more_chains_than_files_that_may_be_open(tmp_path: Path) -> None:
    samples = filled(tmp_path, np.arange(60.0).reshape(60, 1, 1))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, before[1]))
    try:
        assert samples.draws().ravel().tolist() == list(range(60))
        assert samples.predict(lambda x: x) == 29.5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_step_that_is_made_again_takes_the_place_of_all_that_came_after(tmp_path: Path) -> None:
    samples = filled(tmp_path, np.arange(10.0).reshape(1, 10, 1))
    samples.record(0, 4, np.array([-1.0]))
    samples.record(0, 5, np.array([-2.0]))
    assert samples.draws().ravel().tolist() == [0, 1, 2, 3, -1, -2]


def test_the_consensus_is_a_chain_of_its_own(tmp_path: Path) -> None:
    samples = Samples(tmp_path, burn_in=3, thin=7)
    for step in range(6):
        samples.record_consensus(step, np.array([float(step)]))
    assert samples.consensus.ravel().tolist() == [3, 4, 5]
    assert samples.names() == []


def test_draws_of_another_run_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, np.zeros((1, 1, 3)))
    with pytest.raises(ValueError, match=r"holds draws already: resume their run, or take another folder$"):
        Samples(tmp_path).begin()
    Samples(tmp_path).begin(resume=True)
    with pytest.raises(ValueError, match=r"holds draws of 3 float64, got 2 float64$"):
        Samples(tmp_path).record(0, 0, np.zeros(2))


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^thin must be at least 1, got 0$"):
        Samples(tmp_path, thin=0)
    with pytest.raises(ValueError, match=r"^burn_in must be at least 0, got -1$"):
        Samples(tmp_path, burn_in=-1)
    with pytest.raises(ValueError, match="holds no draws"):
        Samples(tmp_path).draws()
    with pytest.raises(ValueError, match="holds no draws"):
        Samples(tmp_path).predict(np.exp)
    with pytest.raises(TypeError, match=r"^samples must be a Samples, got 'there'$"):
        ls.run(ls.LocalSGD(), lambda x, b: x, np.zeros(1), lambda rank, size: iter([0]), samples="there")  # type: ignore[arg-type]


def test_a_prediction_is_the_mean_of_predictions(tmp_path: Path) -> None:
    samples = filled(tmp_path, np.arange(12.0).reshape(2, 6, 1))
    assert samples.predict(lambda x: x**2) == pytest.approx(np.mean(np.arange(12.0) ** 2))
    assert samples.predict(lambda x: x**2, thin=3) == pytest.approx(np.mean(np.array([0, 3, 6, 9.0]) ** 2))


def test_the_statistics_are_those_of_arviz(tmp_path: Path) -> None:
    """Chains of a known posterior agree, and count as many draws as autocorrelation leaves; others do not."""
    pytest.importorskip("arviz_stats")
    samples = Samples(tmp_path / "together", burn_in=50)
    batches = lambda rank, size: iter([np.zeros(1)] * 1050)  # noqa: E731
    sampler, on = ls.SGLD(0.4), ls.Simulated(4)
    ls.run(ls.OneShotAveraging(), lambda x, b: x, np.zeros(6), batches, optimizer=sampler, on=on, samples=samples)
    assert samples.draws().shape == (4, 1000, 6)
    assert samples.rhat().shape == (6,)
    assert samples.rhat().max() < 1.01
    rho = 1 - 0.4
    assert samples.ess() == pytest.approx(4000 * (1 - rho) / (1 + rho), rel=0.25)
    apart = filled(tmp_path / "apart", samples.draws()[:, :300] + np.arange(4)[:, None, None])
    assert apart.rhat().min() > 1.3


def test_copies_of_a_chain_count_as_one(tmp_path: Path) -> None:
    pytest.importorskip("arviz_stats")
    chain = np.random.default_rng(0).standard_normal((1, 200, 2))
    one, copies = filled(tmp_path / "one", chain), filled(tmp_path / "four", chain.repeat(4, axis=0))
    assert copies.ess().tolist() == one.ess().tolist()
    assert np.isnan(copies.rhat()).all(), "there is nothing to compare"


def test_without_arviz_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)
    with pytest.raises(ImportError, match=r"^rhat\(\) is ArviZ's: pip install 'loosestep\[sampling\]'$"):
        filled(tmp_path, np.zeros((1, 2, 1))).rhat()
