"""One worker's optimizers are those of torch.optim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import difference, quadratics, trace

import loosestep as ls

torch = pytest.importorskip("torch")

ALONE = quadratics(1, 50)
PAIRS = [
    (ls.SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    (ls.SGD(0.1, weight_decay=0.03), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.03)),
    (ls.Momentum(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (ls.Nesterov(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    (
        ls.Nesterov(0.1, 0.9, weight_decay=0.03),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.03),
    ),
    (ls.Adam(0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
    (
        ls.Adam(0.02, 0.8, 0.95, 1e-6, weight_decay=0.03),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.03),
    ),
    (ls.AdamW(0.02), lambda p: torch.optim.AdamW(p, lr=0.02)),
    (
        ls.AdamW(0.02, 0.8, 0.95, 1e-6, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[repr(pair[0]) for pair in PAIRS])
def test_a_worker_alone_steps_as_torch_does(ours: Any, theirs: Any) -> None:
    x = torch.tensor(ALONE.start, requires_grad=True)
    optimizer, path = theirs([x]), []
    for _ in range(50):
        path.append(x.detach().numpy().copy())
        x.grad = torch.tensor(ALONE.gradient(path[-1], 0))
        optimizer.step()
    found = trace(ls.AllReduceSGD(), ALONE, 50, on=ls.Serial(), optimizer=ours)
    assert difference(found.points[0], np.array(path)) < 1e-13
    assert difference(found.center, x.detach().numpy()) < 1e-13
