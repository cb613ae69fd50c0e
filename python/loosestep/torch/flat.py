"""A model's parameters as views of one flat buffer, and places for their gradients in another."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests.base import address
from loosestep.requests.row_gradients import RowTensor
from loosestep.torch.device_buffer import is_cuda, tensor_of, zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from loosestep.requests import Buffer

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(eq=False, slots=True)
class Slot:
    """One parameter's place, as elements [start, stop) of the flat buffers."""

    name: str
    param: nn.Parameter
    start: int
    stop: int
    address: int  # of its values: of its view of the flat parameters, or its own memory where it is cast
    cast: Tensor | None  # its place in the flat parameters, where its dtype is another
    grad: Tensor = field(init=False)  # the view of the flat gradient
    sparse: bool = False  # torch makes sparse gradients of it, and its optimizer wants such
    passes: int = 0  # backward passes that reached it in this step, less those whose gradient was thrown away
    rows: RowTensor | None = None  # which of its gradient may not be zero, where means are of rows
    left: tuple[ref[Tensor], int] | None = None  # the gradient that the last one left, and torch's count of writes


def trained(model: nn.Module, held: Iterable[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that the optimizer holds and that are trained, by name, each once."""
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
    """Refuse parameters that the flat buffer cannot hold."""
    if not named:
        raise ValueError("the optimizer holds no parameter that requires a gradient")
    first = named[0][1]
    for name, param in named:
        if is_lazy(param):
            raise TypeError(f"parameter {name!r} has no shape yet: give the model a batch before parallel()")
        if param.device.type != "cpu" and not is_cuda(param):
            raise TypeError(f"parameters must be on the CPU or an NVIDIA GPU, got {name!r} on {param.device}")
        if param.device != first.device:
            raise ValueError(
                f"parameters must be on one device: {name!r} is on {param.device}, others on {first.device}"
            )
        if param.dtype not in DTYPES:
            raise TypeError(
                f"parameters must be float32, float64, bfloat16 or float16, got {name!r} of {param.dtype}"
            )


def widest(named: list[tuple[str, nn.Parameter]]) -> torch.dtype:
    """Return the dtype that holds every value of each: float64 where any is, else float32."""
    return torch.float64 if any(param.dtype == torch.float64 for _, param in named) else torch.float32


class Casts:
    """Parameters whose dtype is not the flat buffer's: they keep their memory, and slots hold casts of them.

    slot <- param is exact: the flat dtype holds every value of the narrower ones.
    param <- slot rounds to nearest: it gives back what the parameter was, where no strategy has moved the slot.
    """

    def __init__(self, slots: list[Slot]) -> None:
        cast = [(slot.param.data, slot.cast) for slot in slots if slot.cast is not None]
        self.params = [param for param, _ in cast]  # as .data, so that autograd sees no write, as with views
        self.places = [place for _, place in cast]
        self.is_flat = False

    def to_flat(self) -> None:
        """Copy the parameters to their slots."""
        torch._foreach_copy_(self.places, self.params)
        self.is_flat = True

    def from_flat(self) -> None:
        """Copy the slots to their parameters."""
        torch._foreach_copy_(self.params, self.places)
        self.is_flat = False

    @contextmanager
    def flat(self) -> Iterator[None]:
        """Let the slots hold the values inside; a block within such a block adds nothing."""
        if self.is_flat:
            yield
            return
        self.to_flat()
        try:
            yield
        except BaseException:
            self.is_flat = False  # no copy back: the GPU may have failed, and partial results are useless
            raise
        self.from_flat()

    @contextmanager
    def unflat(self) -> Iterator[None]:
        """Let the parameters hold the values inside, for torch's optimizer, where a block of `flat` goes on."""
        if not self.is_flat:
            yield
            return
        self.from_flat()
        yield
        self.to_flat()


class Layout:
    """All parameters in one buffer, in the order of the model: slots begin at 64-byte boundaries.

    Strides are kept, so a channels_last weight stays one. The padding is zero for ever: it is in no norm, but it
    travels with the rest (under 64 bytes a parameter).

    The buffer is of the widest dtype. Parameters of that dtype are views of it; others keep their own memory, and
    their slots are casts of them (`Casts`). Where there are such, one side alone holds the values: the parameters
    while the user's code runs, the slots inside

        with layout.flat():

    which every public entry uses around what reads or writes the flat buffer. It copies to the slots, and back at
    the end. If the block raises, nothing is copied back: cast parameters keep the values that they had when it
    began. With one dtype both sides are the same memory, and nothing is done.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], sparse: Collection[nn.Parameter] = ()) -> None:
        check(named)
        self.sparse = sparse  # parameters whose gradients are sparse
        kind = widest(named)
        size = kind.itemsize
        starts = buffers.places([param.numel() * size for _, param in named])
        self.params = zeros(starts[-1] // size, named[0][1], kind)
        self.slots = [self.slot(*each, start // size) for each, start in zip(named, starts, strict=False)]
        self.casts = casts = Casts(self.slots)
        self.has_casts = bool(casts.params)
        self.flat: Callable[[], AbstractContextManager[None]] = casts.flat if self.has_casts else nullcontext
        self.unflat: Callable[[], AbstractContextManager[None]] = casts.unflat if self.has_casts else nullcontext
        self.grad: Tensor  # the flat gradient
        self.shared = False  # other workers write the parameters
        self.away = False  # the model's parameters are other values for a while

    def slot(self, name: str, param: nn.Parameter, start: int) -> Slot:
        """Copy a parameter into the flat buffer, and make it a view of its place there."""
        stop = start + param.numel()
        view = tensor_of(self.params[start:stop])
        view.copy_(in_memory_order(param))
        value = view.as_strided(param.shape, strides(param))
        cast = None if param.dtype == value.dtype else value
        if cast is None:
            param.data = value
        return Slot(name, param, start, stop, param.data_ptr(), cast, sparse=param in self.sparse)

    def move(self, params: Buffer) -> None:
        """Make the parameters, or their casts, views of `params`, which holds their values."""
        if params is self.params:
            return
        for slot in self.slots:
            view = tensor_of(params[slot.start : slot.stop]).as_strided(slot.param.shape, strides(slot.param))
            if slot.cast is None:
                slot.param.data, slot.address = view, view.data_ptr()
            else:
                slot.cast = view
        self.casts.places = [slot.cast for slot in self.slots if slot.cast is not None]
        self.params = params

    @contextmanager
    def holding(self, values: Buffer) -> Iterator[None]:
        """Let the model's parameters be `values` inside the block; gradients of that time are gone after it."""
        grads = [slot.param.grad for slot in self.slots]
        self.away = True
        try:
            self.put(None for _ in grads)
            with self.shown_elsewhere(values) if self.shared else self.shown(values):
                yield
        finally:
            self.put(grads)
            self.away = False

    @contextmanager
    def shown(self, values: Buffer) -> Iterator[None]:
        """Copy `values` to where the parameters are, and their own values back at the end."""
        with self.flat():
            kept = self.params.copy()
            ops.copy(values, self.params)
        try:
            yield
        finally:
            with self.flat():
                ops.copy(kept, self.params)

    @contextmanager
    def shown_elsewhere(self, values: Buffer) -> Iterator[None]:
        """Let the parameters be views of `values`: other workers go on writing where they were."""
        home = self.params
        self.move(values)
        try:
            yield
        finally:
            self.move(home)

    def put(self, grads: Iterable[Tensor | None]) -> None:
        """Set the gradients that torch sees."""
        for slot, grad in zip(self.slots, grads, strict=True):
            slot.param.grad = grad

    def attach(self, grad: Buffer) -> None:
        """Give gradients their places in `grad`."""
        self.grad = tensor_of(grad)
        for slot in self.slots:
            place = self.grad[slot.start : slot.stop]
            slot.grad = place.as_strided(slot.param.shape, strides(slot.param), slot.start).data

    def row_tensors(self) -> list[RowTensor]:
        """Return those whose gradients are sparse, where rows lie one after the other, for means of rows."""
        stops = [*(slot.start for slot in self.slots[1:]), self.params.size]
        for slot, stop in zip(self.slots, stops, strict=True):
            if slot.sparse and slot.param.dim() > 1 and slot.grad.is_contiguous():
                slot.rows = RowTensor(slot.start, stop, tuple(slot.param.shape))
        return [slot.rows for slot in self.slots if slot.rows]

    def in_bucket(self, bucket: Buffer) -> list[Slot]:
        """Return the slots that a part of the flat gradient touches."""
        first = (address(bucket) - self.grad.data_ptr()) // bucket.itemsize
        last = first + bucket.size
        return [slot for slot in self.slots if slot.start < last and slot.stop > first]


class UnflattenedRNNs:
    """Keeps recurrent layers on a GPU from moving their weights to a vector of their own, until `remove()`.

    A weight that has moved is no view of the flat buffer, so no strategy would reach it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        for layer in self.layers:
            layer.flatten_parameters = leave_unflattened

    def remove(self) -> None:
        """Let them move their weights again."""
        for layer in self.layers:
            vars(layer).pop("flatten_parameters", None)


def leave_unflattened() -> None:
    """Do nothing, in place of flatten_parameters()."""


def in_memory_order(tensor: Tensor) -> Tensor:
    """Return the elements as they lie in memory, in one dimension."""
    dense = tensor.detach() if is_dense(tensor) else tensor.detach().contiguous()
    return dense.as_strided((dense.numel(),), (1,))


def strides(tensor: Tensor) -> tuple[int, ...]:
    """Return the tensor's strides where its elements fill their memory, else those of a contiguous one."""
    return tuple((tensor if is_dense(tensor) else tensor.contiguous()).stride())


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill a stretch of memory, in whatever order."""
    return bool(torch.empty_like(tensor).stride() == tensor.stride())
