"""Workers that are groups of processes: what they reach is what one process computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mpi.jobs import ended, needs_mpi

import loosestep as ls

RANKS = Path(__file__).with_name("ranks_within.py")


@needs_mpi
@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("fsdp", "LocalSGD(4)"),
        pytest.param("fsdp", "AllReduceSGD()", marks=pytest.mark.slow),
        pytest.param("ddp", "LocalSGD(4)", marks=pytest.mark.slow),
    ],
)
def test_two_groups_of_two_reach_what_plain_replicas_reach(kind: str, strategy: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    job = ended(
        "-n",
        4,
        RANKS,
        kind,
        strategy,
        tmp_path / "meeting",
        seconds=200,
        environment={"OMP_NUM_THREADS": "1"},
        whole=True,
    )
    assert job.process.returncode == 0, job.err
    assert sorted(line for line in job.out.splitlines() if line.startswith("rank")) == [
        f"rank {rank}: group {rank // 2} of 2, rows [{rank}, {rank + 4}]" for rank in range(4)
    ]
    assert job.err.count("workers ") == 3  # one banner for each run


def test_what_it_cannot_do_is_refused() -> None:
    torch = pytest.importorskip("torch")
    parallel = pytest.importorskip("loosestep.torch").parallel
    model = torch.nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="within= takes one model and one optimizer, and no accumulate"):
        parallel(model, inner, ls.LocalSGD(4), ls.Serial(), accumulate=2, within=object())
    with pytest.raises(TypeError, match="this Linear is neither, so that each of them would train apart"):
        parallel(model, inner, ls.LocalSGD(4), ls.Serial(), within=object())
    kind = type("FSDPModule", (torch.nn.Linear,), {})
    model.__class__ = kind
    with pytest.raises(ValueError, match="shares one memory"):
        parallel(model, inner, ls.Hogwild(adds="racy"), ls.Serial(), within=object())
    model.__class__ = type("DistributedDataParallel", (torch.nn.Linear,), {})
    with pytest.raises(ValueError, match="copies that DDP keeps alike would differ"):
        parallel(model, inner, ls.EASGD(4), ls.Serial(), within=object())
    with pytest.raises(ValueError, match=r"DBS\(.*needs .*, which a worker of several processes does not give"):
        parallel(model, inner, ls.DBS(), ls.Serial(), steps_per_epoch=4, within=object())
    with pytest.raises(TypeError, match="within= needs processes that were started together"):
        parallel(model, inner, ls.LocalSGD(4), ls.Serial(), within=object())
