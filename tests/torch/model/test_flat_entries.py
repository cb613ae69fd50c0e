"""Every public method of `Parallel` that reads or writes the flat buffer does so inside `layout.flat()`.

Between calls the slots of cast parameters are stale. Here they are not a number then: a method that reads one
gives another result, and one that writes one without copying it back leaves slot and parameter apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import Mixed, assert_same_bits, batches, momentum  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import Diverged  # noqa: E402
from loosestep.torch.flat import Casts  # noqa: E402

STRATEGIES = [
    ls.LocalSGD(2),
    ls.EASGD(2),
    ls.EASGD(1, order="published"),
    ls.SyncEASGD(2),
    ls.Parle(),
    ls.StreamingDiLoCo(period=2, fragments=2),
]


@dataclass
class Training:
    """A loop of one worker with parameters of two dtypes."""

    strategy: ls.Strategy
    folder: Path
    stale: bool  # slots are not a number between calls
    called: ClassVar[str] = ""  # the method that runs

    def __post_init__(self) -> None:
        self.net, self.optimizer = self.made()
        self.data = batches(100)

    def made(self) -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        net = Mixed(torch.bfloat16, torch.float32)
        inner = momentum(net.parameters())
        return net, loosestep.torch.parallel(net, inner, self.strategy, ls.Serial())

    def backward(self) -> None:
        self.optimizer.zero_grad()
        x, y = next(self.data)
        nn.functional.cross_entropy(self.net(x), y).backward()

    def spoil(self) -> None:
        """Make the slots stale, as they may be whenever the user's code runs."""
        for slot in self.optimizer.layout.slots if self.stale else ():
            if slot.cast is not None:
                slot.cast.fill_(torch.nan)

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the optimizer with stale slots; afterwards the parameters must be right."""
        self.spoil()
        Training.called = method.__name__
        result = method(*arguments)
        Training.called = ""
        self.check_slots()
        return result

    def check_slots(self) -> None:
        """Slots that were written must have been copied to their parameters."""
        for slot in self.optimizer.layout.slots if self.stale else ():
            if slot.cast is not None and not bool(slot.cast.isnan().all()):
                assert torch.equal(slot.cast.to(slot.param.dtype), slot.param), f"{slot.name} was not copied back"

    def step(self) -> None:
        self.backward()
        self.call(self.optimizer.step)

    def parameters(self) -> list[Tensor]:
        self.check_slots()
        return [param.detach().clone() for param in self.net.parameters()]


# --- what is done with each method -------------------------------------------------------------------------


def synchronize(training: Training) -> None:
    training.backward()
    training.call(training.optimizer.synchronize)


def skip(training: Training) -> None:
    training.backward()
    training.call(training.optimizer.skip)


def no_sync(training: Training) -> None:
    def backward() -> None:
        with training.optimizer.no_sync():
            training.backward()

    training.call(backward)


def ready(training: Training) -> None:
    training.call(training.optimizer.ready)


def zero_grad(training: Training) -> None:
    training.call(training.optimizer.zero_grad)


def state_dict(training: Training) -> list[Tensor]:
    tensors = training.call(training.optimizer.state_dict)["loosestep"]["tensors"]
    return [tensors[name] for name in sorted(tensors)]


def load_state_dict(training: Training) -> None:
    kept = training.optimizer.state_dict()
    training.step()
    training.step()
    training.call(training.optimizer.load_state_dict, kept)


def save(training: Training) -> list[Tensor]:
    training.call(training.optimizer.save, training.folder)
    other, resumed = training.made()
    resumed.restore(training.folder)
    return [param.detach().clone() for param in other.parameters()]


def restore(training: Training) -> None:
    training.call(training.optimizer.save, training.folder)
    training.step()
    training.call(training.optimizer.restore, training.folder)


def close(training: Training) -> None:
    training.call(training.optimizer.close)


def once(training: Training) -> list[Tensor]:
    found: list[Tensor] = training.call(training.optimizer.once, training.parameters)
    return found


def consensus(training: Training) -> list[Tensor]:
    def consensus() -> list[Tensor]:
        with training.optimizer.consensus():
            return training.parameters()

    found: list[Tensor] = training.call(consensus)
    return found


def shard(training: Training) -> list[Tensor]:
    return [torch.tensor(rows) for rows in training.call(training.optimizer.shard, 12, 4)]


def add_param_group(training: Training) -> None:
    with pytest.raises(TypeError, match="comes before parallel"):
        training.call(training.optimizer.add_param_group, {"params": []})


def mean(training: Training) -> list[Tensor]:
    found: list[Tensor] = [training.call(training.optimizer.mean, training.parameters()[0])]
    return found


def gather(training: Training) -> list[Tensor]:
    found: list[Tensor] = training.call(training.optimizer.gather, training.parameters()[0])
    return found


def agree(training: Training) -> list[Tensor]:
    return [training.call(training.optimizer.agree, training.parameters()[0])]


def barrier(training: Training) -> None:
    training.call(training.optimizer.barrier)


def stop(training: Training) -> None:
    training.call(training.optimizer.stop)


def stopping(training: Training) -> None:
    training.call(lambda: training.optimizer.stopping)
    training.optimizer.stop_at.close()  # signals do what they did before


METHODS: dict[str, Callable[[Training], Any]] = {
    each.__name__: each
    for each in (
        *(synchronize, skip, no_sync, ready, zero_grad, state_dict, load_state_dict, save, restore),
        *(close, once, consensus, shard, add_param_group, mean, gather, agree, barrier, stop, stopping),
    )
} | {"step": Training.step}


def result(method: str, training: Training) -> list[Tensor]:
    """Return what a method gives after four steps, and the parameters then, two steps later and as consensus."""
    for _ in range(4):
        training.step()
    found = METHODS[method](training) or []
    found += training.parameters()
    if method in ("synchronize", "no_sync"):
        training.call(training.optimizer.step)
    for _ in range(0 if method == "close" else 2):
        training.step()
    return [*found, *training.parameters(), *once(training)]


def test_every_public_method_is_here() -> None:
    functions = {
        name: value.fget if isinstance(value, property) else value
        for name, value in inspect.getmembers(loosestep.torch.Parallel)
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    public = {name for name, value in functions.items() if value.__module__.startswith("loosestep.")}
    assert public == set(METHODS)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_does_not_need_what_is_in_the_slots(method: str, strategy: ls.Strategy, tmp_path: Path) -> None:
    stale, fresh = (
        result(method, Training(strategy, tmp_path / str(stale), stale=stale)) for stale in (True, False)
    )
    assert_same_bits(stale, fresh)
    assert all(bool(tensor.isfinite().all()) for tensor in stale)


@pytest.mark.parametrize("method", ["step", "save", "restore", "close", "once", "consensus"])
def test_a_method_without_flat_is_found(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Casts.flat

    @contextmanager
    def flat_elsewhere(casts: Casts) -> Iterator[None]:
        with nullcontext() if Training.called == method else flat(casts):
            yield

    monkeypatch.setattr(Casts, "flat", flat_elsewhere)
    with pytest.raises((AssertionError, Diverged)):
        test_a_method_does_not_need_what_is_in_the_slots(method, ls.EASGD(2), tmp_path)


# --- errors inside -----------------------------------------------------------------------------------------


def test_an_error_inside_leaves_cast_parameters_as_they_were(tmp_path: Path) -> None:
    training = Training(ls.EASGD(2), tmp_path, stale=False)
    before = training.parameters()

    def fail() -> None:
        with training.optimizer.layout.flat():
            training.optimizer.layout.params[:] = 3.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    after = training.parameters()
    assert_same_bits(before[:2], after[:2])  # the half ones: the others are views of the flat buffer
    assert all(bool((param == 3).all()) for param in after[2:])
    with training.optimizer.layout.flat():  # it goes on
        training.optimizer.layout.params[:] = 4.0
    assert all(bool((param == 4).all()) for param in training.parameters())


def test_a_block_within_a_block_copies_nothing(tmp_path: Path) -> None:
    layout = Training(ls.EASGD(2), tmp_path, stale=False).optimizer.layout
    with layout.flat():
        layout.params[:] = 3.0
        with layout.flat():
            assert (layout.params == 3).all()
        assert not any(bool((slot.param == 3).all()) for slot in layout.slots if slot.cast is not None)
        with layout.unflat():
            assert all(bool((slot.param == 3).all()) for slot in layout.slots)
    with layout.unflat():  # outside, the parameters are right already
        assert all(bool((slot.param == 3).all()) for slot in layout.slots)
