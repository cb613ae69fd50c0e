"""A PyTorch loop that any launcher starts: prints what two strategies come to, as a digest. `on=` is left out.

python same_bits.py, or `python same_bits.py spawn PORT` and `launch`, which start two processes by themselves.
"""

from __future__ import annotations

import hashlib
import os
import sys

import torch
from torch import nn

import loosestep as ls
import loosestep.torch


def digest() -> str:
    """Return what all ranks come to."""
    torch.set_num_threads(1)
    found = hashlib.sha256()
    for strategy in (ls.LocalSGD(4), ls.AllReduceSGD()):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 1))
        optimizer = loosestep.torch.parallel(net, torch.optim.Adam(net.parameters(), lr=0.01), strategy)
        assert optimizer.size == 2
        random = torch.Generator().manual_seed(optimizer.rank)
        with optimizer:
            for _ in range(30):
                x = torch.randn(16, 20, generator=random)
                optimizer.zero_grad()
                (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
                optimizer.step()
            with optimizer.consensus():
                for param in net.parameters():
                    found.update(param.detach().numpy().tobytes())
    return found.hexdigest()


def spawned(rank: int, port: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    print("bits", digest(), flush=True)


def main(how: str = "", port: str = "") -> None:
    if how == "spawn":
        torch.multiprocessing.spawn(spawned, args=(port,), nprocs=2)
    elif how == "launch":
        print(*(f"bits {each}" for each in ls.launch(digest, 2)), sep="\n")
    else:
        print("bits", digest(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
