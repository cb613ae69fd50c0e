"""The processes that were started together, before there is any model or data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.torch.setup import launched

if TYPE_CHECKING:
    from loosestep.transports.base import ProcessTransport


def world() -> ProcessTransport:
    """Return the transport on which `parallel` trains by default: the processes that were started together.

    Its `rank`, `size` and `local_rank` are this process's. They serve to choose a GPU, to seed, to let one process
    download, before `parallel` is called:

        world = loosestep.torch.world()
        torch.cuda.set_device(world.local_rank)
        torch.manual_seed(1000 + world.rank)
        optimizer = loosestep.torch.parallel(model, optimizer, strategy, world)

    Raises RuntimeError where a launcher that cannot be joined started this process as one of several.

    >>> import loosestep.torch
    >>> here = loosestep.torch.world()
    >>> here.rank, here.size, here.local_rank
    (0, 1, 0)
    """
    return launched()
