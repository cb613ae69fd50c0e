"""A torch module in `run`, by `loosestep.torch.Model`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    batches,
    complex_network,
    mlp,
    train,
)
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402


def test_a_network_in_run_equals_the_users_loop() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return mlp()

    model = loosestep.torch.Model(make, lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]))
    feed = lambda rank, size: batches(12)  # noqa: E731
    options: dict[str, Any] = {"optimizer": ls.SGD(0.1)}
    result = ls.run(ls.LocalSGD(4), model.gradient, model.x0, feed, **options)
    net = make()
    plain = torch.optim.SGD(net.parameters(), 0.1)
    train(net, plain, batches(12))
    for ours, theirs in zip(model.module(result.params).parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    for on in (ls.Threads(2), ls.Simulated(2)):  # both workers do the same, so their mean is each
        other = ls.run(ls.LocalSGD(4), model.gradient, model.x0, feed, on=on, **options)
        np.testing.assert_array_equal(other.params, result.params)


@pytest.mark.parametrize("factory", [complex_network, lambda: 3], ids=["complex", "3"])
def test_what_is_no_network(factory: Any) -> None:
    with pytest.raises(TypeError, match="factory must return|must be float32, float64"):
        loosestep.torch.Model(factory, lambda net, batch: 0)
