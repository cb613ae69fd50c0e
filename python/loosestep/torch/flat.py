"""A network's parameters as views of one flat buffer, and places for their gradients in another."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests.base import address
from loosestep.torch.device_buffer import lies_on_card, tensor_of, zeros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from loosestep.requests import Buffer

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(eq=False, slots=True)
class Slot:
    """One parameter's place, as elements [start, stop) of the flat buffers."""

    name: str
    param: nn.Parameter
    start: int
    stop: int
    home: int  # the address of its values: its view of the flat parameters, or its own memory where it is cast
    cast: Tensor | None  # its place in the flat parameters, where its dtype is another
    grad: Tensor = field(init=False)  # the view of the flat gradient
    passes: int = 0  # backward passes that reached it in this step, less those whose gradient was thrown away
    left: tuple[ref[Tensor], int] | None = None  # the gradient that the last one left, and torch's count of writes


def trained(model: nn.Module, held: Iterable[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
    """The parameters that the optimizer holds and that are trained, by name, each once."""
    names = {param: plain(name) for name, param in model.named_parameters()}
    wanted = list(held)
    strange = [str(tuple(param.shape)) for param in wanted if param not in names]
    if strange:
        raise ValueError(
            f"the optimizer holds parameters that are not the model's, of shapes {', '.join(strange)}"
        )
    kept = set(wanted)
    return [(name, param) for param, name in names.items() if param in kept and param.requires_grad]


def plain(name: str) -> str:
    """Return the name of a parameter as it is where no part of the model is compiled by torch.compile."""
    return name.replace("_orig_mod.", "")


def check(named: list[tuple[str, nn.Parameter]]) -> None:
    """The flat buffer must be able to hold them, in the memory of this machine."""
    if not named:
        raise ValueError("the optimizer holds no parameter that requires a gradient")
    first = named[0][1]
    for name, param in named:
        if is_lazy(param):
            raise TypeError(f"parameter {name!r} has no shape yet: give the model a batch before parallel()")
        if param.device.type != "cpu" and not lies_on_card(param):
            raise TypeError(f"parameters must be on the CPU or an NVIDIA card, got {name!r} on {param.device}")
        if param.device != first.device:
            raise ValueError(
                f"parameters must be on one device: {name!r} is on {param.device}, others on {first.device}"
            )
        if param.dtype not in DTYPES:
            raise TypeError(
                f"parameters must be float32, float64, bfloat16 or float16, got {name!r} of {param.dtype}"
            )


def widest(named: list[tuple[str, nn.Parameter]]) -> torch.dtype:
    """What holds every value of each: float64 where any is, else float32."""
    return torch.float64 if any(param.dtype == torch.float64 for _, param in named) else torch.float32


class Casts:
    """Between our calls the parameters are right, inside them the slots; each call begins and ends with a copy.

    slot <- param exactly: the flat dtype holds every value of the narrower ones.
    param <- slot rounded to nearest: exactly what it was, where no strategy has moved the slot.
    """

    def __init__(self, slots: list[Slot]) -> None:
        cast = [(slot.param.data, slot.cast) for slot in slots if slot.cast is not None]
        self.params = [param for param, _ in cast]  # as .data, so that autograd sees no write, as with views
        self.places = [place for _, place in cast]

    def __bool__(self) -> bool:
        return bool(self.params)

    def bring_in(self) -> None:
        """Parameters -> slots: before anything reads the flat buffer."""
        if self.params:
            torch._foreach_copy_(self.places, self.params)

    def carry_out(self) -> None:
        """Slots -> parameters: after a strategy may have moved the flat buffer."""
        if self.params:
            torch._foreach_copy_(self.params, self.places)


class Layout:
    """All parameters in one buffer, in the order of the model: slots begin at 64-byte boundaries.

    Strides are kept, so a channels_last weight stays one. The padding is zero for ever: it is in no norm, but it
    travels with the rest (under 64 bytes a parameter).

    The buffer is of the widest dtype. Parameters of that dtype are views of it; others keep their own memory, and
    their slots are casts of them (`Casts`).
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]]) -> None:
        check(named)
        kind = widest(named)
        size = kind.itemsize
        starts = buffers.places([param.numel() * size for _, param in named])
        self.params = zeros(starts[-1] // size, named[0][1], kind)
        self.slots = [self.slot(*each, start // size) for each, start in zip(named, starts, strict=False)]
        self.casts = Casts(self.slots)
        self.grad: Tensor  # the flat gradient
        self.shared = False  # other workers write the parameters
        self.away = False  # the model's parameters are other values for a while

    def slot(self, name: str, param: nn.Parameter, start: int) -> Slot:
        stop = start + param.numel()
        view = tensor_of(self.params[start:stop])
        view.copy_(in_memory_order(param))
        value = view.as_strided(param.shape, strides(param))
        cast = None if param.dtype == value.dtype else value
        if cast is None:
            param.data = value
        return Slot(name, param, start, stop, param.data_ptr(), cast)

    def move(self, params: Buffer) -> None:
        """Parameters lie in `params` from now on, which holds their values."""
        whole = tensor_of(params)
        for slot in self.slots:
            view = whole[slot.start : slot.stop].as_strided(slot.param.shape, slot.param.stride())
            slot.param.data, slot.home = view, view.data_ptr()
        self.params = params

    @contextmanager
    def holding(self, values: Buffer) -> Iterator[None]:
        """The model's parameters are `values`, for a while; gradients of that time are gone after it."""
        home, kept = self.params, self.params.copy()
        grads = [slot.param.grad for slot in self.slots]
        self.away = True
        try:
            self.put(None for _ in grads)
            if self.shared:  # others go on writing there, so the model looks elsewhere
                self.move(values)
            else:
                ops.copy(values, home)
                self.casts.carry_out()
            yield
        finally:
            if self.shared:
                self.move(home)
            else:
                ops.copy(kept, home)
                self.casts.carry_out()
            self.put(grads)
            self.away = False

    def put(self, grads: Iterable[Tensor | None]) -> None:
        """The gradients that torch sees."""
        for slot, grad in zip(self.slots, grads, strict=True):
            slot.param.grad = grad

    def attach(self, grad: Buffer) -> None:
        """Gradients have their places in `grad`."""
        self.grad = tensor_of(grad)
        for slot in self.slots:
            place = self.grad[slot.start : slot.stop]
            slot.grad = place.as_strided(slot.param.shape, strides(slot.param), slot.start).data

    def check_home(self) -> None:
        """Someone may have replaced a parameter's memory: then nothing here would move it."""
        for slot in self.slots:
            if slot.param.data_ptr() != slot.home:
                raise RuntimeError(
                    f"the memory of parameter {slot.name!r} was replaced after parallel(): convert or move the "
                    "model before; after close() another parallel() may have it"
                )

    def in_bucket(self, bucket: Buffer) -> list[Slot]:
        """The slots that a part of the flat gradient touches."""
        first = (address(bucket) - self.grad.data_ptr()) // bucket.itemsize
        last = first + bucket.size
        return [slot for slot in self.slots if slot.start < last and slot.stop > first]


class AtHome:
    """Keeps recurrent layers of a card from moving their weights into a vector of their own, until `remove()`.

    Nobody would find them there.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        for layer in self.layers:
            layer.flatten_parameters = nothing

    def remove(self) -> None:
        for layer in self.layers:
            vars(layer).pop("flatten_parameters", None)


def nothing() -> None:
    """In place of flatten_parameters()."""


def bring_home(slot: Slot) -> None:
    """Let a gradient that torch made lie in the flat buffer, or its cast; None becomes zero, unless frozen."""
    found = slot.param.grad
    if found is slot.grad:
        return
    if found is not None and found.layout is not torch.strided:
        raise TypeError(
            f"the gradient of {slot.name!r} is sparse, and averages are of dense ones: say sparse=False"
        )
    if found is None:
        slot.grad.zero_()
    else:
        slot.grad.copy_(found.detach())
    if found is None and not slot.param.requires_grad:  # it was frozen: torch leaves it out of its step
        return
    if slot.cast is None:
        slot.param.grad = slot.grad
    elif found is None:
        slot.param.grad = torch.zeros_like(slot.param)


def in_memory_order(tensor: Tensor) -> Tensor:
    """The elements as they lie in memory, in one dimension."""
    dense = tensor.detach() if is_dense(tensor) else tensor.detach().contiguous()
    return dense.as_strided((dense.numel(),), (1,))


def strides(tensor: Tensor) -> tuple[int, ...]:
    """Those of the tensor where its elements fill their memory, else those of a contiguous one."""
    return tuple((tensor if is_dense(tensor) else tensor.contiguous()).stride())


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a stretch of memory, in whatever order."""
    return bool(torch.empty_like(tensor).stride() == tensor.stride())
