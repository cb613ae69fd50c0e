"""The layers of a model: each emits its forward and its backward pass for a tensor group."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from loosestep.foundation import checks
from loosestep.foundation.value import Value as Described
from loosestep.planner.parallelism.emitter import Emitter, Tensor, part


class Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    gathered: bool
    """The input was split, and was gathered."""
    kept: Any


class Layer(Described):
    """Base of the layers. `whole`: it needs all columns of its input on each device."""

    whole: ClassVar[bool] = False

    def forward(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Saved]:
        """Emit the forward pass; return the output and what backward needs."""
        e.label = name
        gathered = self.whole and x.split
        y, kept = self.compute(e, e.gather(x) if gathered else x, name)
        return y, Saved(gathered, kept)

    def backward(self, e: Emitter, dy: Tensor, saved: Saved, name: str, *, wanted: bool = True) -> Tensor | None:
        """Emit the backward pass; return the gradient of the input, if it is wanted."""
        e.label = name
        dx = self.differentiate(e, dy, saved.kept, name, wanted=wanted)
        return e.shard(dx) if dx is not None and saved.gathered else dx

    @abstractmethod
    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        """Emit the forward pass of an input as the layer needs it."""

    @abstractmethod
    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        """Emit the backward pass."""


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """y = x W + b. If all devices have all of x, the columns of W are split, and so is y (column-parallel); if x
    is split, so are the rows of W, and y is a sum over devices (row-parallel).

    Reference: M. Shoeybi et al., Megatron-LM, arXiv:1909.08053, section 3.
    """

    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        checks.integer("inputs", self.inputs)
        checks.integer("outputs", self.outputs)

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        weights = e.parameter(f"{name}.weight", (self.inputs, self.outputs), axis=0 if x.split else 1)
        bias = e.parameter(f"{name}.bias", (self.outputs,), axis=None if x.split else 0)
        shape = x.rows, weights.values[0].shape[1]
        y = e.apply("matmul", x, weights, shape=shape, split=not x.split)
        if x.split:
            y = e.sum(y)
        return e.apply("bias", y, bias, shape=shape, split=y.split, in_place=True), (x, weights)

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        x, weights = kept
        e.gradient(f"{name}.bias", e.apply("bias db", dy, shape=(dy.width,)).values)
        e.gradient(f"{name}.weight", e.apply("matmul dw", x, dy, shape=(x.width, dy.width)).values)
        if not wanted:
            return None
        dx = e.apply("matmul dx", dy, weights, shape=(x.rows, x.width), split=x.split)
        return dx if x.split else e.sum(dx)


@dataclass(frozen=True, repr=False)
class ReLU(Layer):
    """y = max(x, 0); its output is kept for the backward pass."""

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        y = e.apply("relu", x, shape=(x.rows, x.width), split=x.split)
        return y, y

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        return e.apply("relu dx", dy, kept, shape=(dy.rows, dy.width), split=dy.split) if wanted else None


@dataclass(frozen=True, repr=False)
class GELU(Layer):
    """y = x Phi(x), in the approximation by tanh; its input is kept for the backward pass."""

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        return e.apply("gelu", x, shape=(x.rows, x.width), split=x.split), x

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        return e.apply("gelu dx", dy, kept, shape=(dy.rows, dy.width), split=dy.split) if wanted else None


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """Rows of mean 0 and variance 1, times a gain, plus a bias; each device of a tensor group computes all."""

    whole: ClassVar[bool] = True
    width: int

    def __post_init__(self) -> None:
        checks.integer("width", self.width)

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        gain, bias = (e.parameter(f"{name}.{each}", (self.width,)) for each in ("gain", "bias"))
        return e.apply("layer norm", x, gain, bias, shape=(x.rows, x.width)), (x, gain)

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        x, gain = kept
        shapes = (x.rows, x.width), (x.width,), (x.width,)
        dx, moved, shifted = e.outputs("layer norm grad", (dy, x, gain), *shapes)
        e.gradient(f"{name}.gain", moved)
        e.gradient(f"{name}.bias", shifted)
        return Tensor(dx)


@dataclass(frozen=True, repr=False)
class Attention(Layer):
    """Causal self-attention of rows that hold q, k and v of every head; each device of a group has some heads.

    The backward pass computes the probabilities anew, so that none are kept.
    """

    heads: int
    sequence: int

    def __post_init__(self) -> None:
        checks.integer("heads", self.heads)
        checks.integer("sequence", self.sequence)

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        heads = part(self.heads, e.tensor if x.split else 1, f"the heads of layer {name}", "tensor degree")
        options: dict[str, Any] = {"heads": heads, "sequence": self.sequence}
        return e.apply("attention", x, shape=(x.rows, x.width // 3), split=x.split, **options), (x, options)

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        x, options = kept
        return e.apply("attention grad", dy, x, shape=(x.rows, x.width), split=x.split, **options)


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """y = x + f(x), where f is layers one after the other."""

    whole: ClassVar[bool] = True
    layers: tuple[Layer, ...]

    def compute(self, e: Emitter, x: Tensor, name: str) -> tuple[Tensor, Any]:
        y, kept = x, []
        for number, layer in enumerate(self.layers):
            y, saved = layer.forward(e, y, f"{name}.{number}")
            kept.append(saved)
        e.label = name
        split = y.split
        return e.apply("add", x, e.gather(y), shape=(x.rows, x.width)), (split, kept)

    def differentiate(self, e: Emitter, dy: Tensor, kept: Any, name: str, *, wanted: bool) -> Tensor | None:
        split, saved = kept
        moved: Tensor | None = e.shard(dy) if split else dy
        for number in reversed(range(len(self.layers))):
            assert moved is not None
            more = wanted or number > 0
            moved = self.layers[number].backward(e, moved, saved[number], f"{name}.{number}", wanted=more)
        if not wanted or moved is None:
            return None
        e.label = name
        return e.apply("add", dy, moved, shape=(dy.rows, dy.width))


def loss(e: Emitter, scores: Tensor) -> Tensor:
    """Emit the cross entropy of a microbatch's rows against a class each, times `e.scale`; return its gradient."""
    e.label = "loss"
    whole = e.gather(scores)
    given = whole, Tensor(e.targets)
    value, gradient = e.outputs("cross entropy", given, (1,), (whole.rows, whole.width), scale=e.scale)
    e.program.losses.append(value[0])
    return e.shard(Tensor(gradient)) if scores.split else Tensor(gradient)
