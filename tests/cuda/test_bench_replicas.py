"""`bench replicas`, `bench formats` and `bench hogwild` without a GPU: their contestants agree, on the stub."""

from __future__ import annotations

import pytest
from bench.cuda import formats, hogwild, replicas
from bench.replicas import check
from bench.sparse.data import rcv1_like
from bench.sparse.hogwild import Objective, Rival, matrix, quality
from tests.cuda.emulated.stub import Gpu

from loosestep.cuda import launch


@pytest.mark.parametrize("case", replicas.CASES)
def test_contestants_agree(gpu: Gpu, case: str) -> None:
    check(lambda: replicas.made(replicas.CASES[case], 4096), launch.cupy().asnumpy)
    assert gpu.launches


@pytest.mark.parametrize("case", formats.CASES)
def test_messages_are_those_of_the_cpu(gpu: Gpu, case: str) -> None:
    formats.check(formats.CASES[case])
    assert gpu.launches


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_a_gpu_learns_what_scikit_learn_does(gpu: Gpu, loss: str) -> None:
    """One warp, so one row after another: after three passes the objective is within a tenth of scikit-learn's."""
    rows, targets = matrix(rcv1_like(500), hogwild.FEATURES)
    objective = Objective(loss, 1e-4)
    data = (rows, targets)
    ours = hogwild.GpuRun(rows, targets, objective, "exact", warps=1)
    reached, wanted = (quality(*run.after(3), data, data, objective)[0] for run in (ours, Rival(*data, objective)))
    assert reached < 1.1 * wanted
    assert len(gpu.launches) == 3 * 2 * hogwild.SWEEPS
