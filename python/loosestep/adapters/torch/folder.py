"""Checkpoints of a loop of the user's: one file a worker, written and read as those of `run`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import nn

from loosestep.adapters.torch.saving import restored, saved
from loosestep.agreement import written
from loosestep.arrays import here
from loosestep.checkpoint import Folder
from loosestep.errors import CheckpointError
from loosestep.requests import AllReduce
from loosestep.resizing import begin_anew, merged, say
from loosestep.saving import place

if TYPE_CHECKING:
    from os import PathLike

    from loosestep.adapters.torch.flat import Layout
    from loosestep.checkpoint import Facts
    from loosestep.loop import Loop
    from loosestep.requests import Buffer

Tensors = dict[str, Any]


class Folders:
    """The checkpoint folders of one worker's loop, and what goes into them."""

    def __init__(self, model: nn.Module, layout: Layout, inner: torch.optim.Optimizer, loop: Loop) -> None:
        self.model, self.layout, self.inner, self.loop = model, layout, inner, loop
        self.worker = loop.worker
        self.known: dict[str, Folder] = {}

    def signature(self) -> Facts:
        """Another run's checkpoint is refused."""
        shapes = [(slot.name, tuple(slot.param.shape), str(slot.param.dtype)) for slot in self.layout.slots]
        params, shapes_are = self.worker.params, crc32(repr(shapes).encode())
        return {
            "strategy": written(self.loop.program.plan.strategy),
            "optimizer": type(self.inner).__name__,
            "workers": self.worker.size,
            "parameters": f"{params.size} {params.dtype}, names, shapes and dtypes {shapes_are:08x}",
        }

    def folder(self, path: str | PathLike[str], *, resume: bool) -> Folder:
        key = str(path)
        if key not in self.known:
            self.known[key] = Folder(path, self.signature(), resume=resume)
        return self.known[key]

    def together(self, number: int) -> int:
        """The largest of all workers' numbers; nobody goes on before all are here."""
        board = np.full(1, float(number))
        self.loop.joined.aside([AllReduce(board, op="max")])
        return int(board[0])

    # --- writing -----------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], note: Any) -> None:
        """All workers' parts, then the manifest that makes them count."""
        check_note(note)
        self.loop.between_steps("save()")
        folder = self.folder(path, resume=False)
        step = self.together(self.worker.clock)
        folder.write(step, self.worker.rank, *self.part(note))
        self.together(0)
        if self.worker.rank == 0:
            folder.commit(step, {})
        else:
            folder.follow(step)
        self.together(0)

    def part(self, note: Any) -> tuple[dict[str, Buffer], Facts]:
        """This worker's: parameters, strategy, optimizer, the rest of the model, random numbers."""
        state = saved(self.loop)
        tensors: Tensors = {"params": here(self.worker.params)}
        tensors |= {name: state.numpy() for name, state in self.random().items()}
        tensors |= {name: tensor.numpy() for name, tensor in state.pop("tensors").items()}
        tensors |= {f"model.{name}": array(tensor) for name, tensor in self.others()}
        optimizer = self.inner.state_dict()
        kept = {"groups": optimizer["param_groups"], "state": {}}
        for index, values in optimizer["state"].items():
            kept["state"][str(index)] = numbers(values)
            found = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
            tensors |= {f"optimizer.{index}.{name}": array(value) for name, value in found.items()}
        return tensors, {**state, "optimizer": kept, "note": note}

    def random(self) -> dict[str, torch.Tensor]:
        """The states of torch's generators of random numbers."""
        device = self.layout.slots[0].param.device
        of_card = {"random.card": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
        return {"random": torch.get_rng_state(), **of_card}

    def go_on_drawing(self, tensors: Tensors) -> None:
        torch.set_rng_state(torch.from_numpy(tensors["random"]))
        if "random.card" in tensors and "random.card" in self.random():
            device = self.layout.slots[0].param.device
            torch.cuda.set_rng_state(torch.from_numpy(tensors["random.card"]), device)

    def others(self) -> list[tuple[str, torch.Tensor]]:
        """What the model holds beside its trained parameters."""
        trained = {slot.param.data_ptr() for slot in self.layout.slots}
        return [(name, each) for name, each in self.model.state_dict().items() if each.data_ptr() not in trained]

    # --- reading -----------------------------------------------------------------------------------------

    def restore(self, path: str | PathLike[str]) -> Any:
        """Go to the checkpoint, if there is one: its note."""
        self.loop.between_steps("restore()")
        folder = self.folder(path, resume=True)
        found = folder.read_manifest()
        here = -1 if found is None else found[0]
        if self.together(here) != here:
            raise CheckpointError(f"worker {self.worker.rank} does not find what others find in {path}")
        if found is None:
            return None
        note = self.bring_back(folder)
        self.together(0)
        return note

    def bring_back(self, folder: Folder) -> Any:
        """Its own part, or what the parts of another number of workers make together."""
        where = str(folder.path)
        if folder.workers == self.worker.size:
            tensors, facts = folder.read(self.worker.rank)
            place(self.worker.params, tensors["params"], "params", where)
            self.go_on_drawing(tensors)
            state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
            restored(self.loop, {**facts, "tensors": state})
        else:
            tensors, facts = self.rejoin(folder)
        self.load_rest(tensors, facts["optimizer"], where)
        return facts["note"]

    def rejoin(self, folder: Folder) -> tuple[Tensors, Facts]:
        """All begin alike, as far as the furthest; see resizing.py."""
        strategy = self.loop.program.plan.strategy
        tensors, facts = merged(folder, strategy)
        if self.worker.rank == 0:
            say(folder, strategy, self.worker.size)
        self.loop.settle()
        self.loop.program.enter(facts[0]["position"]["part"])
        begin_anew(self.loop.program, self.loop.joined.session, tensors["params"], str(folder.path))
        furthest = {name: max(told["position"][name] for told in facts) for name in facts[0]["position"]}
        self.together(0)  # the new center is there
        self.loop.go_to({**furthest, "samples": 0, "progress": 0})
        return tensors, facts[0]

    def load_rest(self, tensors: Tensors, optimizer: Facts, where: str) -> None:
        """What belongs to the model and to the optimizer."""
        for name, tensor in self.others():
            if (found := tensors.get(f"model.{name}")) is None or found.shape != tuple(tensor.shape):
                raise CheckpointError(
                    f"{where} does not hold {name!r} of the model, of shape {tuple(tensor.shape)}"
                )
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(found))
        state: dict[int, Any] = {int(index): dict(values) for index, values in optimizer["state"].items()}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                state[int(index)][key] = torch.from_numpy(tensor.copy())
        self.inner.load_state_dict({"state": state, "param_groups": optimizer["groups"]})


def array(tensor: torch.Tensor) -> Buffer:
    """For a file: half types as float32, which holds them exactly and is rounded to the same when it is loaded."""
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    values: Buffer = (tensor.float() if half else tensor).detach().cpu().numpy()
    return values


def numbers(values: dict[str, Any]) -> Facts:
    """Of an optimizer's state, what is no tensor."""
    rest = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    for name, value in rest.items():
        if not isinstance(value, (int, float, str, type(None))):
            raise TypeError(f"the optimizer keeps {name} as {type(value).__name__}, which save() cannot write")
    return rest


def check_note(note: Any) -> None:
    """What is not the same after JSON would come back changed."""
    if json.loads(json.dumps(note)) != note:
        raise TypeError(
            "note must be what JSON gives back unchanged: numbers, strings, lists, and dicts with strings as keys"
        )
