"""The models, optimizers and buffers that parallel() takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    mlp,
    momentum,
    parallel,
    step,
)
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.requests.worker import Worker  # noqa: E402
from loosestep.torch.setup import RunOptions, print_banner  # noqa: E402


def test_what_takes_several_gradients_a_step() -> None:
    net = mlp()
    with pytest.raises(TypeError, match=r"LBFGS takes gradients by itself \(its step\(\) needs a closure\)"):
        parallel(net, inner=torch.optim.LBFGS(net.parameters()))


class DistributedDataParallel(nn.Module):
    """By its name, which is all that is looked at."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize("inside", [False, True])
def test_models_that_make_workers_meet_by_themselves(inside: bool) -> None:
    net: nn.Module = DistributedDataParallel(mlp())
    with pytest.raises(TypeError, match="a DistributedDataParallel, which makes workers meet by itself"):
        parallel(nn.Sequential(net) if inside else net)


def test_an_optimizer_of_two_steps() -> None:
    class SAM(torch.optim.SGD):
        def first_step(self, zero_grad: bool = False) -> None: ...

        def second_step(self, zero_grad: bool = False) -> None: ...

    net = mlp()
    with pytest.raises(TypeError, match=r"^SAM makes a step of two \(first_step\(\) and second_step\(\)\)"):
        parallel(net, inner=SAM(net.parameters(), 0.1))


def test_an_embedding_that_the_forward_pass_changes_is_named_in_the_banner(capsys: Any) -> None:
    """Only rank 0 prints it."""
    net = nn.ModuleDict({"plain": nn.Embedding(4, 2), "bags": nn.EmbeddingBag(4, 2, max_norm=1.0)})
    worker = Worker(0, 2, np.zeros(16), lambda name, like: like)
    options = RunOptions(ls.AllReduceSGD(), 1, 0, None)
    print_banner(options, ls.Simulated(2), net, torch.optim.SGD(net.parameters(), 0.1), worker, None)
    cautions = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(cautions) == 1
    assert cautions[0].startswith("warning: 'bags' has max_norm: the forward pass of a worker scales the rows")


def test_methods_of_the_wrapped_optimizer() -> None:
    class Free(torch.optim.SGD):
        mode = "train"

        def eval(self) -> None:
            self.mode = "eval"

    net = mlp()
    optimizer = parallel(net, inner=Free(net.parameters(), 0.1))
    optimizer.eval()
    assert optimizer.inner.mode == optimizer.mode == "eval"
    with pytest.raises(AttributeError, match="'Free' object has no attribute 'train'"):
        optimizer.train()
    assert not hasattr(optimizer, "_private")
    assert not hasattr(loosestep.torch.Parallel.__new__(loosestep.torch.Parallel), "eval")


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("buffer", "said"),
    [
        (lambda: torch.eye(3).to_sparse(), "is torch.sparse_coo, and workers exchange dense tensors"),
        (lambda: torch.eye(3).to_sparse_csr(), "is torch.sparse_csr, and"),
        (lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), "is quantized, and"),
        (lambda: torch.empty(3, device="meta"), "is on the meta device, without values"),
        (lambda: torch.zeros(4).unfold(0, 2, 1), "has elements that share memory"),
    ],
    ids=["coo", "csr", "quantized", "meta", "overlapping"],
)
def test_buffers_that_cannot_travel(buffer: Any, said: str) -> None:
    net = mlp()
    net[0].register_buffer("adjacency", buffer())
    with pytest.raises(TypeError, match=f"^buffer '0.adjacency' {said}"):
        parallel(net)


def test_a_layer_without_a_shape() -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.LazyLinear(3))
    for params in (net.parameters(), net[0].parameters()):
        with pytest.raises(TypeError, match=r"parameter '1.weight' has no shape yet"):
            parallel(net, inner=momentum(params))


def test_buffers_of_other_forms_than_usual() -> None:
    """Expanded, conjugated, negated, transposed: they come back as they were."""
    net = mlp()
    values = {
        "expanded": torch.tensor([2.0]).expand(3, 4),
        "rows": torch.arange(3.0)[:, None].expand(3, 2),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "negated": torch.tensor([1 + 2j]).conj().imag,
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
    }
    for name, value in values.items():
        net.register_buffer(name, value)
    wanted = {name: value.clone() for name, value in values.items()}
    optimizer = parallel(net)
    step(net, optimizer)
    with optimizer.consensus():
        for name, value in wanted.items():
            assert torch.equal(getattr(net, name), value), name
    for name, value in wanted.items():
        assert torch.equal(getattr(net, name), value), name
