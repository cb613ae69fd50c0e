"""What a loop of the user's saves and finds again: whatever a model and an optimizer hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.foundation.errors import CheckpointError, Diverged  # noqa: E402


def parallel(net: nn.Module, inner: Any = None, strategy: ls.Strategy | None = None) -> Any:
    inner = inner or torch.optim.Adam(net.parameters(), 0.01)
    return loosestep.torch.parallel(net, inner, strategy or ls.LocalSGD(2), ls.Serial())


# --- memory in another order -------------------------------------------------------------------------------


class Transposed(nn.Module):
    """A layer whose weight, and so its moments, lie in memory in Fortran's order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def pictures() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 1))


def frozen() -> nn.Module:
    net = pictures().to(memory_format=torch.channels_last)
    net[0].requires_grad_(False)
    return net


def with_table() -> nn.Module:
    net = pictures()
    net.register_buffer("table", torch.arange(6.0).reshape(2, 3).t())
    return net


ORDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "channels_last": (lambda: pictures().to(memory_format=torch.channels_last), (2, 3, 8, 8)),
    "channels_last, bfloat16": (
        lambda: pictures().to(torch.bfloat16).to(memory_format=torch.channels_last), (2, 3, 8, 8)
    ),
    "channels_last_3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.Flatten()).to(memory_format=torch.channels_last_3d),
        (2, 2, 3, 3, 3),
    ),
    "channels_last, frozen": (frozen, (2, 3, 8, 8)),
    "transposed parameter": (Transposed, (2, 6)),
    "transposed buffer": (with_table, (2, 3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ORDERS)
def test_memory_in_any_order_comes_back(kind: str, tmp_path: Path) -> None:
    make, shape = ORDERS[kind]

    def made() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        net = make()
        return net, parallel(net)

    net, optimizer = made()
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(shape).to(next(net.parameters()).dtype)).float().sum().backward()
        optimizer.step()
    optimizer.save(tmp_path)
    other, resumed = made()
    resumed.restore(tmp_path)
    for mine, yours in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, yours)
    for mine, yours in zip(net.parameters(), other.parameters(), strict=True):
        for name in ("exp_avg", "exp_avg_sq") if mine.requires_grad else ():
            assert torch.equal(optimizer.state[mine][name], resumed.state[yours][name])
            assert optimizer.state[mine][name].abs().max() > 0


def learn(net: nn.Module, optimizer: Any, count: int = 2) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.ones(3, 2)).sum().backward()
        optimizer.step()


# --- what is no tensor -------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A module with a state of its own."""

    def __init__(self, seen: Any) -> None:
        super().__init__()
        self.line, self.seen = nn.Linear(2, 1), seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)  # type: ignore[no-any-return]

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state


@pytest.mark.parametrize(
    "seen",
    [
        {"batches": 4},
        (1, 2.5, None),
        [True, "x"],
        7,
        {"a": {"b": (1, [2])}},
        {"nan": float("inf")},
        np.float32(0.1),
    ],
)
def test_a_state_that_a_module_gives_comes_back(seen: Any, tmp_path: Path) -> None:
    net = nn.Sequential(Counting(seen))
    optimizer = parallel(net)
    learn(net, optimizer)
    optimizer.save(tmp_path)
    other = nn.Sequential(Counting(None))
    parallel(other).restore(tmp_path)
    assert other[0].seen == seen
    assert type(other[0].seen) is type(seen)


def test_tensors_in_a_state_that_a_module_gives(tmp_path: Path) -> None:
    net = Counting({"table": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).t(), "n": 1})
    parallel(net).save(tmp_path)
    other = Counting(None)
    parallel(other).restore(tmp_path)
    assert torch.equal(other.seen["table"], net.seen["table"])
    assert other.seen["table"].dtype == torch.bfloat16


RATES: dict[str, Callable[[Any], Any]] = {
    "a float": lambda params: torch.optim.Adam(params, 0.1, betas=(0.8, 0.9)),
    "a tensor": lambda params: torch.optim.Adam(params, torch.tensor(0.1), betas=(0.8, 0.9)),
    "numpy's": lambda params: torch.optim.Adam(params, np.float32(0.1), betas=(0.8, 0.9)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", RATES)
def test_settings_of_any_kind_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        net = nn.Linear(2, 1)
        return net, parallel(net, RATES[kind](net.parameters()))

    net, optimizer = made()
    learn(net, optimizer)
    optimizer.save(tmp_path)
    other, resumed = made()
    resumed.param_groups[0].update(lr=5.0, betas=(0.1, 0.1))
    resumed.restore(tmp_path)
    group, wanted = resumed.param_groups[0], optimizer.param_groups[0]
    assert type(group["lr"]) is type(wanted["lr"])
    assert float(group["lr"]) == float(wanted["lr"])
    assert group["betas"] == (0.8, 0.9)
    learn(net, optimizer)
    learn(other, resumed)
    assert torch.equal(net.weight, other.weight)


class Odd(torch.optim.SGD):
    """Keeps more than torch's do."""

    def __init__(self, params: Any, state: Any, **group: Any) -> None:
        super().__init__([{"params": list(params), **group}], 0.1)
        for key, value in state.items():
            self.state[key] = value


@pytest.mark.parametrize(
    ("state", "group", "words"),
    [
        ({}, {"tags": {"a", "b"}}, "save() cannot write 'tags' of the optimizer's group 0, which is of type set"),
        ({}, {"by": {int: 2}}, "a key of 'by' of the optimizer's group 0, which is of type type"),
        ({"global": {"x": 1}}, {}, "the optimizer keeps a state under 'global', which is no parameter"),
    ],
)
def test_what_of_an_optimizer_cannot_be_written_is_named(
    state: Any, group: Any, words: str, tmp_path: Path
) -> None:
    net = nn.Linear(2, 1)
    optimizer = parallel(net, Odd(net.parameters(), state, **group))
    with pytest.raises(TypeError, match=re.escape(words)):
        optimizer.save(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("buffer", "kind", "words"),
    [
        (
            torch.ones(2, dtype=torch.float8_e4m3fn),
            TypeError,
            "'table' of the model: torch.float8_e4m3fn is a dtype",
        ),
        (
            torch.ones(2, dtype=torch.complex128),
            CheckpointError,
            "model.table is of complex128, which a checkpoint",
        ),
    ],
)
def test_a_buffer_that_no_file_can_hold_is_named(
    buffer: torch.Tensor, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    net = nn.Linear(2, 1)
    net.register_buffer("table", buffer)
    with pytest.raises(kind, match=re.escape(words)):
        parallel(net).save(tmp_path)


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({"loss": float("nan")}, "note['loss'] is nan, which equals nothing"),
        ({"drops": {5: 1}}, "note['drops'] has the key 5: keys must be strings"),
        ([1, (2, 3)], "note[1] is of type tuple, which JSON does not give back unchanged"),
        ({"best": np.float32(1)}, "note['best'] is of type float32"),
        (
            {"best": np.float64(1)},
            "the rest goes into also= (its .item() is a number)",
        ),
        (torch.ones(()), "note is of type Tensor"),
    ],
)
def test_the_entry_of_a_note_that_cannot_be_kept_is_named(note: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        parallel(nn.Linear(2, 1)).save(tmp_path, note)


# --- which folder, and when --------------------------------------------------------------------------------


def test_one_folder_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("run")
    net = nn.Linear(2, 1)
    optimizer = parallel(net)
    for path in ("run", "run/", "./run", str(tmp_path / "run"), tmp_path / "link"):
        learn(net, optimizer, 1)
        optimizer.save(path, keep=3)
    assert len(list((tmp_path / "run").glob("step-*"))) == 3
    with pytest.raises(
        ValueError, match=r"^run holds a checkpoint: call restore\(folder\) first to go on from it, or"
    ):
        parallel(nn.Linear(2, 1)).save("run")


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_compiled_or_not(first: bool, second: bool, tmp_path: Path) -> None:
    def made(compiled: bool) -> Any:
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        return torch.compile(net, backend="eager") if compiled else net

    net, other = made(first), made(second)
    parallel(net).save(tmp_path)
    parallel(other).restore(tmp_path)
    for mine, yours in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, yours)


def test_after_the_block_and_inside_consensus_it_says_what_to_do(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    with parallel(net) as optimizer:
        learn(net, optimizer)
        for call, name in ((optimizer.save, "save"), (optimizer.restore, "restore")):
            with (
                optimizer.consensus(),
                pytest.raises(RuntimeError, match=rf"^{name}\(\) inside consensus\(\) or once\(\) would take"),
            ):
                call(tmp_path)
        optimizer.save(tmp_path)
    for call, name in ((optimizer.save, "save"), (optimizer.restore, "restore")):
        with pytest.raises(RuntimeError, match=rf"^the run has ended: {name}\(\) belongs inside the `with"):
            call(tmp_path)


def test_what_another_model_wants_is_refused_before_anything_changes(tmp_path: Path) -> None:
    parallel(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))).save(tmp_path)
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(2, affine=False))
    resumed = parallel(other)
    before = [tensor.clone() for tensor in other.state_dict().values()]
    with pytest.raises(CheckpointError, match=r"does not hold '2.running_mean' of the model, of shape \(2,\)$"):
        resumed.restore(tmp_path)
    assert all(map(torch.equal, before, other.state_dict().values()))


def test_a_folder_that_can_only_be_read_is_restored_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = nn.Linear(2, 1)
    parallel(net).save(tmp_path, "kept")

    def refuse(self: Path, content: bytes) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert parallel(nn.Linear(2, 1)).restore(tmp_path) == "kept"
    assert "Read-only file system" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="cannot write to .*/other: Read-only file system"):
        parallel(nn.Linear(2, 1)).restore(tmp_path / "other")


# --- numbers that are not finite ---------------------------------------------------------------------------


def spoil_parameters(net: nn.Module, optimizer: Any) -> None:
    with torch.no_grad():
        net.weight[0, 1] = torch.inf  # type: ignore[index, operator]


def spoil_moments(net: nn.Module, optimizer: Any) -> None:
    optimizer.state[net.weight]["exp_avg_sq"][0, 1] = torch.nan


@pytest.mark.parametrize("spoil", [spoil_parameters, spoil_moments])
def test_what_is_not_finite_never_replaces_a_good_checkpoint(spoil: Any, tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    optimizer = parallel(net)
    learn(net, optimizer)
    optimizer.save(tmp_path, "good")
    spoil(net, optimizer)
    sentence = "^the parameters or optimizer buffers of worker 0 are not finite at step 2: the run diverged"
    with pytest.raises(Diverged, match=sentence):
        optimizer.save(tmp_path, "bad")
    if spoil is spoil_parameters:
        with pytest.raises(Diverged, match=sentence):
            optimizer.once(print)
    with pytest.raises(Diverged, match="of worker 0 are not finite"):
        optimizer.close()
    assert parallel(nn.Linear(2, 1)).restore(tmp_path) == "good"


def test_a_mask_in_the_model_may_be_infinite(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    net.register_buffer("mask", torch.full((3,), -torch.inf))
    with parallel(net) as optimizer:
        learn(net, optimizer)
        optimizer.save(tmp_path)
    other = nn.Linear(2, 1)
    other.register_buffer("mask", torch.zeros(3))
    parallel(other).restore(tmp_path)
    assert torch.equal(other.mask, net.mask)  # type: ignore[arg-type]
