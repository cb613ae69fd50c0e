"""Hogwild in a loop of the user's: one worker is plain torch; several share parameters and optimizer state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mpi4py")

from tests.mpi.jobs import ended as job_of  # noqa: E402
from tests.torch.processes.test_ranks import ALONE, MPIEXEC  # noqa: E402
from tests.torch.sharing import MAKERS, RACY  # noqa: E402
from tests.torch.training import Training, assert_same_bits, left_behind, mlp  # noqa: E402
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.torch.flat import Layout  # noqa: E402
from loosestep.torch.shared_state import SharedState  # noqa: E402

SCRIPT = Path(__file__).with_name("sharing.py")


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_one_worker_is_plain_torch(name: str) -> None:
    training = Training(optimizer=MAKERS[name])
    assert_same_bits(training.run(RACY), training.run())


def test_one_worker_with_sparse_rows_is_plain_torch() -> None:
    assert_same_bits(sparsely(parallel=True), sparsely(parallel=False))


def sparsely(*, parallel: bool) -> list[Any]:
    torch.manual_seed(0)
    net = nn.Embedding(8, 3, sparse=True)
    inner = torch.optim.SparseAdam(net.parameters(), 0.1)
    optimizer: Any = loosestep.torch.parallel(net, inner, RACY, ls.Serial()) if parallel else inner
    for number in range(6):
        optimizer.zero_grad()
        net(torch.tensor([number, 3])).square().sum().backward()
        optimizer.step()
    return left_behind(net, inner)


def shared_state_of(inner: torch.optim.Optimizer, net: nn.Module) -> SharedState:
    return SharedState(inner, Layout(list(net.named_parameters())), set())


def test_the_first_state_is_found_and_the_step_that_found_it_undone() -> None:
    net = mlp()
    before = [param.detach().clone() for param in net.parameters()]
    inner = torch.optim.NAdam(net.parameters(), 0.1, weight_decay=0.5)
    arena = shared_state_of(inner, net)
    assert_same_bits([param.detach() for param in net.parameters()], before)
    assert inner.param_groups[0]["weight_decay"] == 0.5
    assert all(param.grad is None for param in net.parameters())
    wanted = {"step": 0.0, "mu_product": 1.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}
    assert {(entry.name, entry.value.unique().item()) for entry in arena.entries} == set(wanted.items())


def test_a_state_that_was_there_is_kept() -> None:
    net = mlp()
    inner = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.ones(1, 5)).sum().backward()
    inner.step()
    before = [state["momentum_buffer"].clone() for state in inner.state.values()]
    assert_same_bits([entry.value for entry in shared_state_of(inner, net).entries], before)


class Counting(torch.optim.SGD):
    """Counts where workers cannot share."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1


class Listing(torch.optim.SGD):
    """Keeps a list."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["history"] = []


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Counting, "Counting counts in its param_groups"), (Listing, "keeps 'history' of '0.weight' as list")],
)
def test_state_that_workers_cannot_share(kind: type[torch.optim.SGD], said: str) -> None:
    net = mlp()
    with pytest.raises(TypeError, match=said):
        shared_state_of(kind(net.parameters(), 0.1), net)


def test_momentum_of_sparse_rows_cannot_be_shared() -> None:
    net = nn.Embedding(8, 3, sparse=True)
    inner = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    with pytest.raises(TypeError, match=r"'momentum_buffer' of 'weight' as torch.sparse_coo on cpu"):
        SharedState(inner, Layout(list(net.named_parameters())), {net.weight})


def test_a_network_in_threads_is_moved_by_atomic_updates() -> None:
    model = loosestep.torch.Model(
        lambda: nn.Linear(2, 1, bias=False), lambda net, batch: ((net(batch) - 1) ** 2).mean()
    )
    result = ls.run(
        ls.Hogwild(adds="exact"),
        model.gradient,
        model.x0,
        lambda rank, size: iter([torch.eye(2)] * 200),
        on=ls.Threads(2),
    )
    assert abs(result.params[:2] - 1).max() < 1e-3


# --- several ranks: the cases of sharing.py are run by test_ranks.py ---------------------------------------


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
def test_a_rank_that_is_killed_ends_the_job_and_is_named() -> None:
    job = job_of("-n", 3, SCRIPT, "killed", environment=ALONE, seconds=240)
    assert job.process.returncode == 137, job.err
    assert "rank 2 on" in job.err or "worker 2 failed: without a word" in job.err
    assert "killed ok" not in job.out
