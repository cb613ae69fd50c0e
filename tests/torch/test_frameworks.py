"""Glue for frameworks, as far as it needs none of them; the rest is tests/system/test_framework_examples.py."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch")

from loosestep.torch.frameworks.launcher import hidden_launcher

SEEN = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "PMIX_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "one",
    "SLURM_NTASKS": "2",
}


def test_what_a_launcher_says_is_hidden_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SEEN, "RANKS_OF_MINE": "3"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with hidden_launcher():
        assert not set(SEEN) & set(os.environ)
        assert os.environ["RANKS_OF_MINE"] == "3"
    assert dict(os.environ) == before


def test_it_comes_back_after_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(KeyError), hidden_launcher():
        raise KeyError
    assert os.environ["OMPI_COMM_WORLD_SIZE"] == "2"
