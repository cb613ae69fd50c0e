"""Several optimizers in one `parallel()`: of one model, or of several that train together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.exit_handler import ClosedAtEnd
from loosestep.torch.agreement.together import TorchTogether
from loosestep.torch.saving.several import restore_together, save_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from os import PathLike

    import torch

    from loosestep.torch.optimizer import Parallel


class ParallelGroup(ClosedAtEnd, TorchTogether):
    """Several optimizers whose run is one: `parallel` makes it where it is given a list of them.

    `optimizers` are in the order in which they were given, and each is used as that of a single `parallel()`: it
    steps when you say so, in rounds of its own. Consensus, checkpoints and the end are those of all together;
    `mean`, `gather`, `agree`, `barrier`, `once`, `stop` and `stopping` are as of one, at the first one's steps.

    An optimizer trains the parameters that it holds. A parameter belongs to one optimizer, in whatever models it
    is, so models may share parts. Use `with` where workers have unequal data: only then all end at once.

    >>> import loosestep as ls, loosestep.torch, torch
    >>> g, d = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    >>> both = [torch.optim.Adam(net.parameters()) for net in (g, d)]
    >>> both = loosestep.torch.parallel([g, d], both, ls.AllReduceSGD(), ls.Serial(), accumulate=[1, 2])
    >>> of_g, of_d = both.optimizers
    >>> with both:
    ...     for real in torch.ones(10, 4, 2):
    ...         fake = g(torch.randn(4, 3))
    ...         of_d.zero_grad()  # also of what the generator's loss left here
    ...         (1 - d(real)).relu().mean().backward()
    ...         (1 + d(fake.detach())).relu().mean().backward()
    ...         of_d.step()
    ...         of_g.zero_grad()
    ...         (-d(fake)).mean().backward()
    ...         of_g.step()
    >>> both.once(lambda: tuple(g(torch.zeros(1, 3)).shape))
    (1, 2)
    """

    def __init__(self, models: Sequence[nn.Module], optimizers: Sequence[Parallel]) -> None:
        self.models, self.optimizers = list(models), tuple(optimizers)
        first = self.optimizers[0]
        self.rank, self.size, self.loop = first.rank, first.size, first.loop
        self.agreement, self.stop_at = first.agreement, first.stop_at
        self.layouts = [optimizer.layout for optimizer in self.optimizers]

    def _models(self) -> list[nn.Module]:
        return self.models

    def __iter__(self) -> Iterator[Parallel]:
        return iter(self.optimizers)

    def __len__(self) -> int:
        return len(self.optimizers)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """Make a step of each, where all step at one time."""
        for optimizer in self.optimizers:
            optimizer.step()

    def skip(self) -> None:
        """Leave out a step of each."""
        for optimizer in self.optimizers:
            optimizer.skip()

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """Return this worker's part of `data`, whose position follows the steps of the first optimizer."""
        return self.optimizers[0].shard(data, batch_size, seed=seed, shuffle=shuffle)

    @contextmanager
    def consensus(self, batches: Iterable[Any] | None = None) -> Iterator[nn.Module | list[nn.Module]]:
        """Let all models hold the consensus inside the block; yields them, as `Parallel.consensus` yields one."""
        with ExitStack() as stack:
            for optimizer in reversed(self.optimizers):  # the first one of a model exchanges its buffers
                recomputes = optimizer.statistics.kind == "recompute"
                stack.enter_context(optimizer.consensus(batches if recomputes else None))
            yield self.models[0] if len(self.models) == 1 else self.models

    def save(
        self, folder: str | PathLike[str], note: Any = None, keep: int = KEEP, *, also: Sequence[Any] = ()
    ) -> None:
        """Write one checkpoint of all, which `restore` goes on from: see `Parallel.save`."""
        save_together(folder, self.optimizers, note, keep, also=also)

    def restore(self, folder: str | PathLike[str], *, also: Sequence[Any] = ()) -> Any:
        """Go on from the newest whole checkpoint in the folder: see `Parallel.restore`."""
        return restore_together(folder, self.optimizers, also=also)

    def close(self, error: BaseException | None = None) -> None:
        """End the data of all: see `Parallel.close`.

        All end at once, for another worker may still be in its loop, and wait for this one in any of them.
        """
        for optimizer in self.optimizers:
            optimizer.stop_at.close()  # handlers of signals are set by the main thread alone
        with ThreadPoolExecutor(len(self.optimizers)) as threads:
            closing = [threads.submit(optimizer.close, error) for optimizer in self.optimizers]
        for each in closing:
            each.result()


def models_of(models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> list[nn.Module]:
    """Return, for each optimizer, the first model that has all of its parameters, or else all models together.

    Raises ValueError for a parameter that two optimizers hold, and for a model that none trains.
    """
    check_held_once(optimizers)
    has = [set(model.parameters()) for model in models]
    held = [{param for group in each.param_groups for param in group["params"]} for each in optimizers]
    for number, params in enumerate(has):
        if not any(params & mine for mine in held):
            raise ValueError(f"no optimizer holds a parameter of model {number}: leave it out of parallel()")
    together = nn.ModuleList(models)
    return [
        next((model for model, params in zip(models, has, strict=True) if mine <= params), together)
        for mine in held
    ]


def check_held_once(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Raise ValueError for a parameter that two optimizers hold: each would move it, and average it."""
    owner: dict[nn.Parameter, int] = {}
    for number, optimizer in enumerate(optimizers):
        for group in optimizer.param_groups:
            for param in group["params"]:
                if owner.setdefault(param, number) != number:
                    raise ValueError(
                        f"optimizers {owner[param]} and {number} both hold a parameter of shape "
                        f"{tuple(param.shape)}: let one of them hold what several models share"
                    )
