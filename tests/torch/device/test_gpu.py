"""On a GPU: a loop of the user's there. `pytest -m gpu`; skipped where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.device.emulated_device import CODED  # noqa: E402
from tests.torch.device.test_device import SERVED, few  # noqa: E402
from tests.torch.training import Mixed, batches, left_behind, mlp, momentum  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.strategies import choco_sgd, coded  # noqa: E402
from loosestep.strategies.base import Strategy  # noqa: E402
from loosestep.torch.device_buffer import DeviceBuffer, buffer_of  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


def trained(strategy: Strategy | None, device: str, net: nn.Module | None = None) -> list[Tensor]:
    """What a few steps leave behind, in plain torch where there is no strategy."""
    torch.manual_seed(0)
    net = (net or mlp()).to(device)
    inner: Any = momentum(net.parameters())
    used = inner if strategy is None else loosestep.torch.parallel(net, inner, strategy, ls.Serial())
    for x, y in batches(9):
        used.zero_grad()
        nn.functional.cross_entropy(net(x.to(device)), y.to(device)).backward()
        used.step()
    if strategy is not None:
        assert isinstance(used.worker.params, DeviceBuffer) == (device == "cuda")
        used.close()
    return [tensor.cpu() for tensor in left_behind(net, inner)]


@pytest.mark.parametrize("strategy", [ls.AllReduceSGD(bucket_bytes=64), ls.LocalSGD(period=4)], ids=repr)
def test_one_worker_is_plain_torch(strategy: Strategy) -> None:
    for got, wanted in zip(trained(strategy, "cuda"), trained(None, "cuda"), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("strategy", SERVED)
def test_every_strategy_is_near_the_cpu(strategy: Strategy) -> None:
    torch.testing.assert_close(trained(strategy, "cuda"), trained(strategy, "cpu"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy", CODED, ids=repr)
def test_messages_are_made_there(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (coded, choco_sgd):
        monkeypatch.setattr(module, "here", lambda buffer: few(buffer).numpy())
    for got in trained(strategy, "cuda"):
        assert torch.isfinite(got).all()


def test_parameters_of_several_dtypes() -> None:
    torch.manual_seed(0)
    for got in trained(ls.DiLoCo(period=2), "cuda", Mixed()):
        assert torch.isfinite(got).all()


def test_what_meets_others_goes_through_pinned_memory() -> None:
    net = mlp().cuda()
    with loosestep.torch.parallel(net, momentum(net.parameters()), ls.EASGD(period=1), ls.Serial()) as optimizer:
        nn.functional.cross_entropy(net(torch.randn(2, 5).cuda()), torch.tensor([0, 1]).cuda()).backward()
        optimizer.step()
        staging = optimizer.loop.connection.staging
        mirrors = [mirror for free in staging.free.values() for mirror in free]
        assert mirrors
        assert all(mirror.held.is_pinned() for mirror in mirrors)


def test_copies_follow_what_the_stream_does() -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        x = torch.zeros(1 << 24, device="cuda")
        buffer: Any = buffer_of(x)
        mirror = buffer.mirror()
        for _ in range(100):
            x.add_(1)
        mirror.bring(buffer)
        mirror.wait()
        assert (mirror.array == 100).all()
        mirror.array[:] = 5
        mirror.send(buffer)
        x.add_(1)
        mirror.wait()
        torch.cuda.current_stream().synchronize()
    assert (x == 6).all()


def test_ranks_that_share_a_gpu() -> None:
    pytest.importorskip("mpi4py")
    from tests.torch.processes import ranks_device
    from tests.torch.processes.test_ranks import ALONE, MPIEXEC

    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    command = [str(MPIEXEC), "-n", "2", sys.executable, str(ranks_device.__file__)]
    subprocess.run(command, timeout=240, env=os.environ | ALONE, check=True)


def test_a_checkpoint_keeps_the_gpus_random_numbers(tmp_path: Any) -> None:
    def drawn(restore: bool) -> Tensor:
        net = mlp().cuda()
        with loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(), ls.Serial()) as optimizer:
            if restore:
                optimizer.restore(tmp_path)
            else:
                optimizer.save(tmp_path)
            return torch.rand(4, device="cuda")

    assert torch.equal(drawn(restore=False), drawn(restore=True))
