"""A loop of the user's whose parameters lie on a GPU: the bits of the CPU, and everything stays where it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.contract.discovery import cases  # noqa: E402
from tests.cuda.emulated.stub import Gpu  # noqa: E402
from tests.torch.device.emulated_device import CODED, emulated_device  # noqa: E402
from tests.torch.training import Mixed, Training, assert_same_bits, batches, mlp, momentum  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep import strategies  # noqa: E402
from loosestep.foundation.buffers import is_buffer  # noqa: E402
from loosestep.foundation.errors import CudaError  # noqa: E402
from loosestep.lowering import staging  # noqa: E402
from loosestep.strategies import choco_sgd, coded  # noqa: E402
from loosestep.strategies.base import Strategy, leaves  # noqa: E402
from loosestep.torch import flat  # noqa: E402
from loosestep.torch.device_buffer import DeviceBuffer  # noqa: E402


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gpu]:
    with emulated_device(monkeypatch, tmp_path / "kernels") as made:
        yield made


def serves(strategy: Strategy) -> bool:
    """Whether a loop of the user's can have it on a GPU, with nothing but step()."""
    return not strategy.shared_buffers and not strategy.needs


SERVED = [case for case in cases(strategies, Strategy) if serves(case.values[0])]


def trained(strategy: Strategy, net: nn.Module | None = None, **options: Any) -> tuple[list[Tensor], Any]:
    """What a few steps leave behind, and the optimizer."""
    torch.manual_seed(0)
    net = net or mlp()
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy, ls.Serial(), **options)
    with optimizer:
        for x, y in batches(9):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        with optimizer.consensus():
            left = [tensor.detach().clone() for tensor in net.state_dict().values()]
    return left + [tensor.detach().clone() for tensor in net.state_dict().values()], optimizer


@pytest.mark.parametrize("strategy", SERVED)
def test_every_strategy_gives_the_bits_of_the_cpu(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 64)
    wanted, _ = trained(strategy)
    with emulated_device(monkeypatch, tmp_path) as gpu:
        got, optimizer = trained(strategy)
    assert_same_bits(got, wanted)
    assert {launch.stream for launch in gpu.launches} <= {7}
    held = [value for *_, value in leaves(optimizer.loop.program.state) if is_buffer(value)]
    large = [value for value in held if value.size > 16]
    assert all(isinstance(value, DeviceBuffer) for value in large), (
        "the strategy keeps what is large in main memory"
    )


@pytest.mark.parametrize("strategy", CODED, ids=repr)
def test_messages_are_made_there(strategy: Strategy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted, _ = trained(strategy)
    with emulated_device(monkeypatch, tmp_path) as gpu:
        for module in (coded, choco_sgd):
            monkeypatch.setattr(module, "here", lambda buffer: few(buffer).numpy())
        got, _ = trained(strategy)
    assert_same_bits(got, wanted)
    kernels = {launch.kernel.split("_")[0] for launch in gpu.launches}
    assert kernels >= {"encode", "decode"}


def few(buffer: Any) -> Any:
    """The weights of messages come to main memory, and nothing else."""
    assert buffer.size == 1
    return buffer


def test_a_schedule_goes_on_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a part ends all go to its consensus, and what the next one shares is set anew."""
    strategy = ls.Stages((ls.DiLoCo(2), 1), (ls.EASGD(2), 1), (ls.AllReduceSGD(), None))
    wanted, _ = trained(strategy, steps_per_epoch=4)
    with emulated_device(monkeypatch, tmp_path):
        got, optimizer = trained(strategy, steps_per_epoch=4)
    assert_same_bits(got, wanted)
    assert optimizer.loop.program.part == 2


NEEDING = [ls.AdaptiveLocalSGD(distance=None, time_share=0.2), ls.FedAvg(2, fraction=1)]


@pytest.mark.parametrize("strategy", NEEDING, ids=repr)
def test_what_needs_more_of_a_loop(gpu: Gpu, strategy: Strategy) -> None:
    got, optimizer = trained(strategy)
    assert isinstance(optimizer.worker.params, DeviceBuffer)
    assert all(torch.isfinite(tensor).all() for tensor in got)


def test_parameters_of_several_dtypes(gpu: Gpu) -> None:
    torch.manual_seed(0)
    got, optimizer = trained(ls.DiLoCo(period=2), Mixed())
    assert isinstance(optimizer.worker.params, DeviceBuffer)
    assert {tensor.dtype for tensor in got} == {torch.bfloat16, torch.float32, torch.float64}
    assert {launch.kernel for launch in gpu.launches} >= {"elementwise<OuterNesterov, double>"}


def test_plain_torch_is_plain_torch(gpu: Gpu) -> None:
    for training in (Training(), Training(accumulate=2, clip=0.1)):
        assert_same_bits(training.run(ls.LocalSGD(period=4)), training.run())


def test_what_is_saved_of_a_tensor_is_that_tensor(gpu: Gpu) -> None:
    net = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1))
    loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(), ls.Serial())
    file = io.BytesIO()
    torch.save(net[1].bias, file)
    assert net[1].bias.untyped_storage().nbytes() == 4
    assert file.tell() < 4000


@pytest.mark.parametrize("strategy", [ls.DiLoCo(period=2), ls.Downpour(2), ls.EASGD(2)], ids=repr)
@pytest.mark.parametrize("first", ["on a GPU", "on the CPU"])
def test_a_checkpoint_goes_on_wherever_parameters_lie(
    strategy: Strategy, first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Four steps, and four more of another process, there or here: eight steps."""

    def steps(which: range, *, restore: bool, there: bool) -> list[Tensor]:
        with monkeypatch.context() as patch:
            if not there:
                return some_steps(strategy, tmp_path / "saved", which, restore=restore)
            with emulated_device(patch, tmp_path):
                return some_steps(strategy, tmp_path / "saved", which, restore=restore)

    on = first == "on a GPU"
    steps(range(4), restore=False, there=on)
    got = steps(range(4, 8), restore=True, there=not on)
    assert_same_bits(got, some_steps(strategy, tmp_path / "other", range(8), restore=False))


def some_steps(strategy: Strategy, folder: Path, which: range, *, restore: bool) -> list[Tensor]:
    torch.manual_seed(0)
    net = mlp()
    inner = momentum(net.parameters())
    with loosestep.torch.parallel(net, inner, strategy, ls.Serial()) as optimizer:
        if restore:
            optimizer.restore(folder)
        for x, y in list(batches(8))[which.start : which.stop]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        optimizer.save(folder)
    return [tensor.clone() for tensor in net.state_dict().values()]


def test_recurrent_layers_stay_where_they_are(gpu: Gpu) -> None:
    net = nn.LSTM(3, 2)
    made(net)
    net.flatten_parameters()
    assert net.flatten_parameters is flat.leave_unflattened
    file = io.BytesIO()
    torch.save(net, file)


def test_an_error_ends_the_loop_without_a_word_to_the_gpu(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = made(Mixed())
    monkeypatch.setattr(optimizer.layout, "flat", lambda: pytest.fail("the GPU may be dead"))
    with pytest.raises(ZeroDivisionError), optimizer:
        raise ZeroDivisionError
    assert optimizer.loop.over


def test_a_model_of_a_loop_that_the_library_owns(gpu: Gpu) -> None:
    model = loosestep.torch.Model(lambda: nn.Linear(2, 1, bias=False), lambda net, x: ((net(x) - 1) ** 2).mean())
    assert isinstance(model.replica().layout.params, DeviceBuffer)
    rows = lambda rank, size: iter([torch.eye(2)] * 200)  # noqa: E731
    result = ls.run(ls.LocalSGD(4), model.gradient, model.x0, rows, on=ls.Simulated(2))
    np.testing.assert_allclose(result.params[:2], 1, atol=1e-3)


# --- refused -----------------------------------------------------------------------------------------------


def made(net: nn.Module, strategy: Strategy | None = None) -> Any:
    return loosestep.torch.parallel(net, momentum(net.parameters()), strategy or ls.LocalSGD(), ls.Serial())


def test_other_devices_and_several(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"on one device: '1.weight' is on meta, others on cpu"):
        made(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")))
    monkeypatch.undo()
    with pytest.raises(TypeError, match="on the CPU or an NVIDIA GPU, got 'weight' on meta"):
        made(nn.Linear(2, 2, device="meta"))


def test_without_cupy_nothing_begins(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(CudaError, match="buffers on a GPU need CuPy, which is not here: pip install"):
        made(mlp())


def test_a_launch_that_fails_says_so(gpu: Gpu) -> None:
    net = mlp()
    optimizer = made(net, ls.DiLoCo(period=1))
    before = [param.detach().clone() for param in net.parameters()]
    gpu.refusal = "out of memory"
    nn.functional.cross_entropy(net(torch.randn(2, 5)), torch.tensor([0, 1])).backward()
    with pytest.raises(Exception, match="could not be started on GPU 0: out of memory"):
        optimizer.step()
    gpu.refusal = ""
    assert all(torch.isfinite(param).all() for param in net.parameters())
    assert len(before) == 4
