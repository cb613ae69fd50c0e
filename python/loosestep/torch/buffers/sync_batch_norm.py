"""Batch normalization whose statistics are those of all workers' batches together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from loosestep.foundation.errors import Mismatch, PeerFailed
from loosestep.requests import AllReduce
from loosestep.strategies.base import Need

if TYPE_CHECKING:
    from loosestep.runtime.user_loop import Connection
    from loosestep.strategies.base import Strategy
    from loosestep.torch.flat import Layout

KINDS = ("own", "sync")
TOGETHER = (
    "SyncBatchNorm makes all workers meet in every forward pass in train(), so all must make as many of them at "
    "the same steps"
)


def synchronized(model: nn.Module, kind: str, strategy: Strategy) -> list[nn.Module]:
    """Return the layers whose statistics are to be those of all workers: torch's SyncBatchNorm, with 'sync' all.

    Raises ValueError under a strategy whose workers make forward passes at their own pace.
    """
    wanted: type[nn.Module] = _BatchNorm if kind == "sync" else SyncBatchNorm
    found = [module for module in model.modules() if isinstance(module, wanted)]
    apart = any(not part.synchronous or Need.PARTIAL_PARTICIPATION in part.needs for part, _ in strategy.stages)
    if apart and (found or kind == "sync"):
        what = "batch_norm='sync'" if kind == "sync" else "SyncBatchNorm"
        raise ValueError(
            f"{what} makes all workers meet in every forward pass, and under {strategy} each goes at its own "
            "pace: use torch's BatchNorm, whose statistics are each worker's own"
        )
    return found


class Workers:
    """All workers of a run, who add up numbers in the middle of forward and backward passes."""

    def __init__(self, connection: Connection, layout: Layout) -> None:
        self.connection, self.layout = connection, layout

    def meet(self) -> bool:
        """Return whether they are all here: inside consensus() and once() one worker may be alone."""
        return not self.layout.away

    def add(self, numbers: Tensor) -> Tensor:
        """Return the sums of float64 numbers over all workers. Raises Mismatch where one is elsewhere."""
        total = numbers.detach().cpu().contiguous()
        try:
            self.connection.run_unmetered([AllReduce(total.numpy(), op="sum")])
        except Mismatch as error:
            raise Mismatch(f"{TOGETHER}: {error}") from error
        except PeerFailed as error:
            error.add_note(TOGETHER)
            raise
        return total.to(numbers.device)


class SynchronizedNorms:
    """Layers of a model whose statistics are those of all workers, until `remove()`.

    Each becomes an object of a class beside its own; what copies it, or writes it to a file, sees its own.
    """

    def __init__(self, layers: list[nn.Module], workers: Workers) -> None:
        self.layers = [layer for layer in layers if not isinstance(layer, Synchronized)]
        for layer in self.layers:
            Synchronized.workers[layer] = workers
            layer.__class__ = beside(type(layer))

    def remove(self) -> None:
        """Let them be what they were."""
        for layer in self.layers:
            layer.__class__ = layer.plain_class
            Synchronized.workers.pop(layer, None)


class Synchronized(_BatchNorm):
    """What the layers have in common."""

    workers: ClassVar[WeakKeyDictionary[nn.Module, Workers]] = WeakKeyDictionary()
    plain_class: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what makes a layer of the class before."""
        return object.__new__, (self.plain_class,), vars(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize with all workers' statistics in train(), as torch does elsewhere."""
        workers = self.workers.get(self)
        if not self.training or workers is None or not workers.meet():
            return self.plain_class.forward(self, x)
        self._check_input_dim(x)
        return apart(self, x, workers)


def beside(plain: type[nn.Module]) -> type[nn.Module]:
    """Return the class of layers that are synchronized and of another class besides."""
    return type(plain.__name__, (Synchronized, plain), {"plain_class": plain, "__module__": plain.__module__})


def normalized(layer: Any, x: Tensor, workers: Workers) -> Tensor:
    """Return the normalized batch, and let the running statistics follow those of all batches together."""
    y, mean, variance, count = Normalize.apply(x, layer.weight, layer.bias, layer.eps, workers)
    if layer.track_running_stats and layer.running_mean is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            unbiased = variance * (count / max(count - 1, 1))
            layer.running_mean.lerp_(mean.to(layer.running_mean), share)
            layer.running_var.lerp_(unbiased.to(layer.running_var), share)
    return y


apart: Any = torch.compiler.disable(normalized)  # torch.compile cannot look into what meets others


class Normalize(torch.autograd.Function):
    """y = (x - m) / sqrt(v + eps) * weight + bias, with m and v of all workers' x together.

    Worker i sends n_i, n_i m_i and n_i (v_i + m_i^2), in float64. Backward it sends sum dy and sum dy xhat, which
    are those of the sum of all workers' losses. Gradients of weight and bias are this worker's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, workers: Workers
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        others = [dimension for dimension in range(x.dim()) if dimension != 1]
        wide = x.double() if x.dtype == torch.float64 else x.float()
        size = x.numel() // max(x.shape[1], 1)
        v, m = (part.double() for part in torch.var_mean(wide, others, correction=0)) if size else empty(x)
        total = workers.add(torch.cat([m.new_tensor([size]), size * m, size * (v + m * m)]))
        count = float(total[0])
        m, squares = (total[1:] / count).chunk(2)
        v = (squares - m * m).clamp_(min=0)
        inverse = (v + eps).rsqrt()
        ctx.save_for_backward(x, weight, m, inverse)
        ctx.count, ctx.others, ctx.workers = count, others, workers
        y = (wide - along(m, wide)) * along(inverse, wide)
        if weight is not None and bias is not None:
            y = y * along(weight, wide) + along(bias, wide)
        ctx.mark_non_differentiable(m, v)
        return y.to(x.dtype), m, v, count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, m, inverse = ctx.saved_tensors
        wide, dy = (each.double() if x.dtype == torch.float64 else each.float() for each in (x, dy))
        xhat = (wide - along(m, wide)) * along(inverse, wide)
        of_bias, of_weight = dy.sum(ctx.others), (dy * xhat).sum(ctx.others)
        means = ctx.workers.add(torch.cat([of_bias, of_weight]).double()) / ctx.count
        by_bias, by_weight = means.chunk(2)
        dx = (dy - along(by_bias, wide) - xhat * along(by_weight, wide)) * along(inverse, wide)
        if weight is None:
            return dx.to(x.dtype), None, None, None, None
        dx = dx * along(weight, wide)
        return dx.to(x.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None


def along(values: Tensor, like: Tensor) -> Tensor:
    """Return one value for each channel, in the shape and dtype that a batch meets."""
    return values.to(like.dtype).reshape(1, -1, *[1] * (like.dim() - 2))


def empty(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return variances and means of no rows, which count for nothing."""
    zeros = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    return zeros, zeros
