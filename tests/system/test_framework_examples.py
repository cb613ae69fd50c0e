"""The examples of frameworks: one worker and two reach the same model, and a run goes on where it stood."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.mpi.jobs import ended, needs_mpi

JOB = Path(__file__).with_name("framework_job.py")
EXAMPLES = Path(__file__).parents[2] / "examples"
MODULES = {"huggingface": "transformers", "lightning": "lightning", "accelerate": "accelerate", "timm": "timm"}

LINES = {"huggingface": 6, "lightning": 8, "accelerate": 28, "timm": 32}
"""How often a job says a loss, if no run stops early."""


def weights(folder: Path) -> dict[str, Any]:
    """What a run has trained."""
    import torch
    from safetensors.torch import load_file

    if (folder / "trained").exists():
        return dict(load_file(folder / "trained" / "model.safetensors"))
    return dict(torch.load(folder / "trained.pt", weights_only=True))


def losses(out: str) -> list[float]:
    return [float(number) for number in re.findall(r"^(?:epoch|step) \d+: loss ([\d.]+)", out, re.MULTILINE)]


def test_every_example_of_a_framework_is_tested_and_says_what_it_needs() -> None:
    assert {file.parent.name for file in EXAMPLES.glob("*/requirements.txt")} == set(MODULES)


@needs_mpi
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MODULES)
def test_it_trains_as_one_process_would_and_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip(MODULES[name])
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    for ranks in (1, 2):
        job = ended("-n", ranks, JOB, name, tmp_path, seconds=400, environment=quiet, whole=True)
        assert job.process.returncode == 0, job.err
    found = losses(job.out)  # each line once: rank 0's
    assert LINES[name] / 2 < len(found) <= LINES[name], job.out
    assert all(last < 5 for last in found)
    alone, together = weights(tmp_path / "ranks-1"), weights(tmp_path / "ranks-2")
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=2e-3, atol=2e-4)
    for method in ("AllReduceSGD", "LocalSGD"):
        whole, parts = (weights(tmp_path / f"{method}-{kind}") for kind in ("whole", "parts"))
        assert all(torch.equal(parts[key], value) for key, value in whole.items()), method
    assert all(value.isfinite().all() for value in weights(tmp_path / "easgd").values())
