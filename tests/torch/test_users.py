"""What users do to a model and an optimizer after `parallel`: noticed, or as in plain torch."""

from __future__ import annotations

import copy
import io
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import adamw, assert_same_bits, batches, left_behind, mlp, momentum, seeded  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.torch import exit_handler  # noqa: E402

IDENTITIES = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD()], ids=repr)
EACH = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD(), ls.EASGD(2)], ids=repr)


def made(net: nn.Module, strategy: ls.Strategy | None = None, inner: Any = None, **options: Any) -> Any:
    strategy = strategy or ls.LocalSGD(2)
    return loosestep.torch.parallel(net, inner or momentum(net.parameters()), strategy, ls.Serial(), **options)


def backward(net: nn.Module, number: int = 0) -> None:
    x, y = list(batches(number + 1))[number]
    nn.functional.cross_entropy(net(x), y).backward()


def step(net: nn.Module, optimizer: Any, number: int = 0) -> None:
    optimizer.zero_grad()
    backward(net, number)
    optimizer.step()


# --- what is trained ---------------------------------------------------------------------------------------


@EACH
def test_unfrozen_later(strategy: ls.Strategy) -> None:
    net = mlp()
    net[0].requires_grad_(False)
    optimizer = made(net, strategy)
    step(net, optimizer)
    net[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' requires a gradient, which it did not when"):
        step(net, optimizer)
    net[0].requires_grad_(False)  # it goes on where it was
    step(net, optimizer)
    assert optimizer.worker.clock == 2


@EACH
def test_added_later_to_the_wrapped_optimizer(strategy: ls.Strategy) -> None:
    net = mlp()
    optimizer = made(net, strategy, momentum(net[2].parameters()))
    optimizer.inner.add_param_group({"params": list(net[0].parameters())})
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' came into the optimizer after parallel\(\)"):
        step(net, optimizer)


def test_taken_out_later() -> None:
    net = mlp()
    optimizer = made(net)
    optimizer.inner.param_groups[0]["params"].pop(1)
    with pytest.raises(RuntimeError, match=r"the optimizer no longer holds parameter '0.bias'"):
        step(net, optimizer)


@IDENTITIES
def test_frozen_later_and_trained_again_is_plain_torch(strategy: ls.Strategy) -> None:
    def train(parallel: bool) -> list[Any]:
        net = seeded(0)
        inner = adamw(list(net.parameters()))
        optimizer = made(net, strategy, inner) if parallel else inner
        for number in range(9):
            net[0].requires_grad_(not 3 <= number < 6)
            before = net[0].weight.detach().clone()
            step(net, optimizer, number)
            assert torch.equal(before, net[0].weight) == (3 <= number < 6)
            assert (net[0].weight.grad is None) == (3 <= number < 6)
        return left_behind(net, inner)

    assert_same_bits(train(True), train(False))


@pytest.mark.parametrize("what", ["assigned", "a new layer", "set"])
def test_parameters_that_were_replaced(what: str) -> None:
    net = mlp()
    optimizer = made(net)
    step(net, optimizer)
    if what == "assigned":
        net.load_state_dict({name: value.clone() for name, value in mlp().state_dict().items()}, assign=True)
    elif what == "a new layer":
        net[0] = nn.Linear(5, 7)
    else:
        net[0].weight = nn.Parameter(net[0].weight.detach().clone())
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' of the model was replaced after parallel\(\)"):
        step(net, optimizer)
    with pytest.raises(RuntimeError, match="was replaced"), optimizer.consensus():
        pass


def test_changes_that_leave_what_is_trained() -> None:
    """A layer more, a wrapper around one, a pruned one, a part that is gone."""
    net = nn.ModuleDict({"body": nn.Linear(5, 3), "aside": nn.Linear(2, 2), "kept": nn.Linear(3, 3)})
    optimizer = made(net)
    before = net["body"].weight.detach().clone()
    for change in (
        lambda: net.update({"more": nn.Linear(3, 3)}),
        lambda: net.update({"body": nn.Sequential(net["body"])}),
        lambda: prune.identity(net["kept"], "weight"),
        lambda: net.pop("aside"),
    ):
        change()
        optimizer.zero_grad()
        net["body"](torch.ones(2, 5)).sum().backward()
        optimizer.step()
    assert not torch.equal(net["body"][0].weight, before)


@pytest.mark.parametrize("compiled", [0, 1])
def test_compiled_or_not_names_are_the_same(compiled: int, tmp_path: Any) -> None:
    nets: list[Any] = [seeded(0), seeded(1)]
    nets[compiled] = torch.compile(nets[compiled], backend="eager")
    first, second = map(made, nets)
    step(nets[0], first)
    first.save(tmp_path)
    second.restore(tmp_path)
    assert_same_bits([param.detach() for param in nets[1].parameters()], list(nets[0].parameters()))


# --- hooks -------------------------------------------------------------------------------------------------


@EACH
def test_a_model_is_a_plain_one_after_close(strategy: ls.Strategy) -> None:
    net, plain = seeded(0), seeded(0)
    with made(net, strategy) as optimizer:
        step(net, optimizer)
    plain.load_state_dict(net.state_dict())
    inner, other = momentum(net.parameters()), momentum(plain.parameters())
    for number in range(3):
        for model, its in ((net, inner), (plain, other)):
            step(model, its, number)
            backward(model)  # no step, no count
    assert_same_bits(left_behind(net, inner), left_behind(plain, other))
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert not any(param._post_accumulate_grad_hooks for param in net.parameters())


def test_one_parallel_after_another() -> None:
    net = mlp()
    first = made(net, inner=momentum(net[2].parameters()))
    step(net, first)
    with pytest.raises(RuntimeError, match=r"parameter '2.weight' already belongs to another parallel\(\)"):
        made(net)
    first.close()
    second = made(net)
    before = net[0].weight.detach().clone()
    step(net, second)
    assert not torch.equal(before, net[0].weight)
    with pytest.raises(RuntimeError, match="after close.. another parallel.. may have it"):
        first.tracked.check()


def test_two_models_that_share_a_part() -> None:
    shared = nn.Linear(4, 4)
    one, other = nn.Sequential(shared, nn.Linear(4, 1)), nn.Sequential(nn.Linear(4, 1), shared)
    made(one)
    with pytest.raises(RuntimeError, match=r"'1.weight' already belongs .* only one of their optimizers"):
        made(other)


def test_what_is_gone_is_not_open() -> None:
    net = mlp()
    made(net)
    del net
    import gc

    gc.collect()
    net = mlp()
    step(net, made(net))


@pytest.mark.parametrize("strategy", [ls.DBS(), ls.AdaptiveLocalSGD(distance=None, time_share=0.5)], ids=repr)
def test_copies_of_a_model_carry_nothing(strategy: ls.Strategy) -> None:
    net = mlp()
    optimizer = made(net, strategy)
    sampler = iter(optimizer.shard(32, 8) if optimizer.needs & {ls.Need.GLOBAL_BATCHES} else [0, 1])
    next(sampler)
    step(net, optimizer)
    assert optimizer.worker.computing > 0, "times are measured from the forward pass"
    file = io.BytesIO()
    torch.save(net, file)
    assert b"loosestep" not in file.getvalue()
    averaged = torch.optim.swa_utils.AveragedModel(net)
    for copied in (copy.deepcopy(net), averaged, torch.load(io.BytesIO(file.getvalue()), weights_only=False)):
        copied(torch.ones(2, 5)).sum().backward()
    optimizer.close()


# --- backward passes ---------------------------------------------------------------------------------------


@IDENTITIES
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("whose", ["model", "optimizer"])
def test_gradients_that_are_thrown_away(strategy: ls.Strategy, whose: str, set_to_none: bool) -> None:
    """One worker's loop is plain torch's: a pass that zero_grad() undoes counts for nothing."""

    def train(parallel: bool) -> list[Any]:
        net = seeded(0)
        inner = momentum(net.parameters())
        optimizer = made(net, strategy, inner, accumulate=2) if parallel else inner
        for number in range(5):
            for _ in range(3):  # somebody else's loss
                backward(net, 7)
                (net if whose == "model" else optimizer).zero_grad(set_to_none=set_to_none)
            backward(net, number)
            backward(net, number + 1)
            optimizer.step()
            optimizer.zero_grad()
        return left_behind(net, inner)

    assert_same_bits(train(True), train(False))


def test_a_gan_of_one_worker() -> None:
    """The discriminator's zero_grad() comes after the generator's pass, as in every tutorial."""

    def train(parallel: bool) -> list[Any]:
        torch.manual_seed(0)
        nets = nn.Linear(4, 5), nn.Linear(5, 1)
        inners = [momentum(net.parameters()) for net in nets]
        g, d = inners
        if parallel:
            g, d = (made(net, ls.AllReduceSGD(), inner) for net, inner in zip(nets, inners, strict=True))
        for _ in range(4):
            fake = nets[0](torch.randn(3, 4))
            d.zero_grad()
            (nets[1](fake.detach()).mean() - nets[1](torch.randn(3, 5)).mean()).backward()
            d.step()
            g.zero_grad()
            (-nets[1](fake).mean()).backward()
            g.step()
            if parallel:
                d.once(lambda: None)  # between d's steps, though a pass has gone through it
        return left_behind(nets[0], inners[0]) + left_behind(nets[1], inners[1])

    assert_same_bits(train(True), train(False))


def test_the_remedy_for_too_many_passes() -> None:
    net = mlp()
    made(net)
    backward(net)
    with pytest.raises(RuntimeError, match=r"accumulate=2\), which is 1, if so many make a step; a loss"):
        backward(net)


@IDENTITIES
def test_recomputation_that_runs_backward_within_backward(strategy: ls.Strategy) -> None:
    def train(parallel: bool) -> list[Any]:
        net = seeded(0)
        inner = momentum(net.parameters())
        optimizer = made(net, strategy, inner) if parallel else inner
        for x, _ in batches(4):
            optimizer.zero_grad()
            y = x.requires_grad_(True)
            for _ in range(3):
                y = checkpoint(lambda h: torch.cat([net(h), h[:, :2]], 1), y, use_reentrant=True)
            y.pow(2).mean().backward()
            optimizer.step()
        return left_behind(net, inner)

    assert_same_bits(train(True), train(False))


def test_batches_are_counted_once_though_passes_are_many() -> None:
    net = mlp()
    optimizer = made(net, accumulate=3)
    sampler = optimizer.shard(120, 4)
    loader = iter(sampler)
    for _ in range(6):
        next(loader)
        optimizer.zero_grad()
        for _ in range(3):  # several losses of one batch
            backward(net)
        optimizer.step()
    assert sampler.state_dict()["used"] == 24


# --- consensus ---------------------------------------------------------------------------------------------


def test_passes_inside_a_consensus_do_not_count() -> None:
    net, other = seeded(0), seeded(0)
    optimizer, plain = made(net, ls.AllReduceSGD()), made(other, ls.AllReduceSGD())
    for number in range(3):
        step(other, plain, number)
        optimizer.zero_grad()
        with optimizer.consensus():
            for _ in range(3):
                backward(net, 5)
            assert net[0].weight.grad is not None
            optimizer.zero_grad()
            backward(net, 5)
        assert net[0].weight.grad is None
        backward(net, number)  # no zero_grad() meanwhile
        optimizer.step()
    assert_same_bits(left_behind(net, optimizer.inner), left_behind(other, plain.inner))


def test_what_is_refused_inside_a_consensus(tmp_path: Any) -> None:
    net = mlp()
    optimizer = made(net, ls.EASGD(3))
    step(net, optimizer)
    saved = optimizer.state_dict()
    mine = optimizer.worker.params.copy()
    with optimizer.consensus():
        for name, call in {
            "step()": optimizer.step,
            "synchronize()": optimizer.synchronize,
            "ready()": optimizer.ready,
            "save()": lambda: optimizer.save(tmp_path),
            "restore()": lambda: optimizer.restore(tmp_path),
            "state_dict()": optimizer.state_dict,
            "load_state_dict()": lambda: optimizer.load_state_dict(saved),
        }.items():
            with pytest.raises(RuntimeError, match="inside consensus") as caught:
                call()
            assert str(caught.value).startswith(name)
        with optimizer.consensus() as again:
            assert again is net
        assert optimizer.once(lambda: 3) == 3
    assert (optimizer.worker.params == mine).all()
    assert optimizer.worker.clock == 1
    assert not list(tmp_path.iterdir())


def test_what_is_refused_after_the_end(tmp_path: Any) -> None:
    net = mlp()
    with made(net) as optimizer:
        step(net, optimizer)
        saved = optimizer.state_dict()
    for call in (
        optimizer.step,
        optimizer.synchronize,
        optimizer.ready,
        lambda: optimizer.save(tmp_path),
        lambda: optimizer.restore(tmp_path),
        lambda: optimizer.load_state_dict(saved),
    ):
        with pytest.raises(RuntimeError, match=r"the run has ended: .* belongs inside the `with optimizer:`"):
            call()


@EACH
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=lambda kind: kind.__name__)
def test_there_is_no_consensus_after_an_error(strategy: ls.Strategy, error: type[BaseException]) -> None:
    net = mlp()
    optimizer = made(net, strategy)
    step(net, optimizer)
    with pytest.raises(error), optimizer:
        raise error
    trained = net[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match=rf"ended with an error \({error.__name__}\), so there is no consensus"):
        optimizer.once(lambda: None)
    assert torch.equal(net[0].weight, trained)


# --- what parallel() takes ---------------------------------------------------------------------------------


def test_what_takes_several_gradients_a_step() -> None:
    net = mlp()
    with pytest.raises(TypeError, match=r"LBFGS takes gradients by itself \(its step\(\) needs a closure\)"):
        made(net, inner=torch.optim.LBFGS(net.parameters()))


class DistributedDataParallel(nn.Module):
    """By its name, which is all that is looked at."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize("inside", [False, True])
def test_models_that_make_workers_meet_by_themselves(inside: bool) -> None:
    net: nn.Module = DistributedDataParallel(mlp())
    with pytest.raises(TypeError, match="a DistributedDataParallel, which makes workers meet by itself"):
        made(nn.Sequential(net) if inside else net)


def test_methods_of_the_wrapped_optimizer() -> None:
    class Free(torch.optim.SGD):
        mode = "train"

        def eval(self) -> None:
            self.mode = "eval"

    net = mlp()
    optimizer = made(net, inner=Free(net.parameters(), 0.1))
    optimizer.eval()
    assert optimizer.inner.mode == optimizer.mode == "eval"
    with pytest.raises(AttributeError, match="'Free' object has no attribute 'train'"):
        optimizer.train()
    assert not hasattr(optimizer, "_private")
    assert not hasattr(loosestep.torch.Parallel.__new__(loosestep.torch.Parallel), "eval")


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("buffer", "said"),
    [
        (lambda: torch.eye(3).to_sparse(), "is torch.sparse_coo, and workers exchange dense tensors"),
        (lambda: torch.eye(3).to_sparse_csr(), "is torch.sparse_csr, and"),
        (lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), "is quantized, and"),
        (lambda: torch.empty(3, device="meta"), "is on the meta device, without values"),
        (lambda: torch.zeros(4).unfold(0, 2, 1), "has elements that share memory"),
    ],
    ids=["coo", "csr", "quantized", "meta", "overlapping"],
)
def test_buffers_that_cannot_travel(buffer: Any, said: str) -> None:
    net = mlp()
    net[0].register_buffer("adjacency", buffer())
    with pytest.raises(TypeError, match=f"^buffer '0.adjacency' {said}"):
        made(net)


def test_a_layer_without_a_shape() -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.LazyLinear(3))
    for params in (net.parameters(), net[0].parameters()):
        with pytest.raises(TypeError, match=r"parameter '1.weight' has no shape yet"):
            made(net, inner=momentum(params))


def test_buffers_of_other_forms_than_usual() -> None:
    """Expanded, conjugated, negated, transposed: they come back as they were."""
    net = mlp()
    values = {
        "expanded": torch.tensor([2.0]).expand(3, 4),
        "rows": torch.arange(3.0)[:, None].expand(3, 2),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "negated": torch.tensor([1 + 2j]).conj().imag,
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
    }
    for name, value in values.items():
        net.register_buffer(name, value)
    wanted = {name: value.clone() for name, value in values.items()}
    optimizer = made(net)
    step(net, optimizer)
    with optimizer.consensus():
        for name, value in wanted.items():
            assert torch.equal(getattr(net, name), value), name
    for name, value in wanted.items():
        assert torch.equal(getattr(net, name), value), name


# --- data --------------------------------------------------------------------------------------------------

DATA = TensorDataset(torch.arange(64))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader(DATA), r"got a DataLoader: give it its \.dataset"),
        (RandomSampler(DATA), "got a RandomSampler: give it what it draws from"),
        (BatchSampler(RandomSampler(DATA), 4, False), "got a BatchSampler"),
        (iter(DATA), "takes a data set with len"),
    ],
    ids=["loader", "sampler", "batches", "iterator"],
)
def test_what_shard_refuses(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        made(mlp()).shard(given, 4)


def test_a_look_at_a_batch_is_no_pass() -> None:
    net = mlp()
    optimizer = made(net)
    sampler = optimizer.shard(DATA, 8)
    sampler.set_epoch(17)  # of no effect
    whole = list(optimizer.shard(DATA, 8))
    for _ in range(3):
        assert next(iter(sampler)) == whole[0]
    passed = []
    for number, batch in enumerate(sampler):
        step(net, optimizer)
        passed.append(batch)
        if number == 4:
            break
    assert passed == whole[:5]
    resumed = optimizer.shard(DATA, 8)
    resumed.load_state_dict(sampler.state_dict())
    next(iter(resumed))
    assert list(resumed) == whole[5:]
    assert next(iter(sampler)) != whole[0], "a pass that made steps is over when the next begins"
    assert sampler.epoch == 1


# --- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "bad"), [(0, False), (None, False), (3, True), ("no data", True)])
def test_an_exit_inside(code: Any, bad: bool) -> None:
    """What ends well ends the data: there is a consensus."""
    net = mlp()
    optimizer = made(net)
    step(net, optimizer)
    with pytest.raises(SystemExit), optimizer:
        sys.exit(code)
    assert optimizer.loop.over
    assert bool(optimizer.loop.failed) == bad


def test_exit_codes() -> None:
    assert exit_handler.is_success(None)
    assert exit_handler.is_success(0)
    assert not exit_handler.is_success(3)
    assert not exit_handler.is_success("no data")
    before = sys.exit
    one, other = exit_handler.ExitHandler(lambda: None), exit_handler.ExitHandler(lambda: None)
    try:
        for code in (3, None, "no data"):
            with pytest.raises(SystemExit) as caught:
                sys.exit(code)
            assert caught.value.code == code
        assert exit_handler.ExitHandler.code is None, "it was caught"
    finally:
        one.close()
        assert sys.exit is not before
        other.close()
    assert sys.exit is before
