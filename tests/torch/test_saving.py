"""What a loop of the user's saves and finds again: whatever a model and an optimizer hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402


def parallel(net: nn.Module, inner: Any = None, strategy: ls.Strategy | None = None) -> Any:
    inner = inner or torch.optim.Adam(net.parameters(), 0.01)
    return loosestep.torch.parallel(net, inner, strategy or ls.LocalSGD(2), ls.Serial())


# --- memory in another order -------------------------------------------------------------------------------


class Transposed(nn.Module):
    """A layer whose weight, and so its moments, lie in memory in Fortran's order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def pictures() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 1))


def frozen() -> nn.Module:
    net = pictures().to(memory_format=torch.channels_last)
    net[0].requires_grad_(False)
    return net


def with_table() -> nn.Module:
    net = pictures()
    net.register_buffer("table", torch.arange(6.0).reshape(2, 3).t())
    return net


ORDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "channels_last": (lambda: pictures().to(memory_format=torch.channels_last), (2, 3, 8, 8)),
    "channels_last, bfloat16": (
        lambda: pictures().to(torch.bfloat16).to(memory_format=torch.channels_last), (2, 3, 8, 8)
    ),
    "channels_last_3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.Flatten()).to(memory_format=torch.channels_last_3d),
        (2, 2, 3, 3, 3),
    ),
    "channels_last, frozen": (frozen, (2, 3, 8, 8)),
    "transposed parameter": (Transposed, (2, 6)),
    "transposed buffer": (with_table, (2, 3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ORDERS)
def test_memory_in_any_order_comes_back(kind: str, tmp_path: Path) -> None:
    make, shape = ORDERS[kind]

    def made() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        net = make()
        return net, parallel(net)

    net, optimizer = made()
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(shape).to(next(net.parameters()).dtype)).float().sum().backward()
        optimizer.step()
    optimizer.save(tmp_path)
    other, resumed = made()
    resumed.restore(tmp_path)
    for mine, yours in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, yours)
    for mine, yours in zip(net.parameters(), other.parameters(), strict=True):
        for name in ("exp_avg", "exp_avg_sq") if mine.requires_grad else ():
            assert torch.equal(optimizer.state[mine][name], resumed.state[yours][name])
            assert optimizer.state[mine][name].abs().max() > 0
