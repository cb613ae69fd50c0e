"""Adversarial training in a torch loop: the numbers of numpy, and nothing but inputs is touched by an attack."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import assert_same_bits, left_behind, mlp, momentum, seeded  # noqa: E402
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.adversarial import FGSM, PGD, AdversarialModel  # noqa: E402
from loosestep.adversarial.attack import Place  # noqa: E402
from loosestep.data.models import Softmax  # noqa: E402
from loosestep.torch import AdversarialLoss  # noqa: E402

cross_entropy = nn.functional.cross_entropy


def batches(count: int) -> list[Any]:
    random = torch.Generator().manual_seed(4)
    return [
        (torch.rand(12, 5, generator=random), torch.randint(0, 3, (12,), generator=random)) for _ in range(count)
    ]


X, Y = batches(1)[0]


def normalized() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))


@pytest.mark.parametrize("attack", [PGD(0.2), PGD(0.3, norm=2), FGSM(0.1), PGD(0.2, targeted=True)], ids=repr)
def test_an_attack_is_that_of_numpy(attack: Any) -> None:
    net, classifier = nn.Linear(5, 3).double(), Softmax().build(5, 3, "f8")
    params = np.concatenate([net.weight.detach().numpy().T.ravel(), net.bias.detach().numpy()])
    robust = AdversarialLoss(net, attack, targets=(lambda y: 2 - y) if attack.targeted else None, seed=3)
    for step in range(2):
        found = robust.perturb(X.double(), Y)
        labels = (2 - Y if attack.targeted else Y).numpy()
        slope = lambda at, labels=labels: classifier.input_gradient(params, (at, labels))  # noqa: E731
        expected = attack.perturb(X.double().numpy(), slope, Place(3, 0, step))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["eval", "keep"])
def test_an_attack_leaves_gradients_hooks_statistics_and_modes_alone(mode: Any) -> None:
    net = normalized()
    net[1].eval()
    net[4].requires_grad_(False)
    called: list[Any] = []
    for param in (*net[0].parameters(), *net[1].parameters()):
        param.register_post_accumulate_grad_hook(called.append)
        param.grad = torch.ones_like(param)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    generator, modes = torch.get_rng_state(), [each.training for each in net.modules()]
    AdversarialLoss(net, PGD(0.2), mode=mode).perturb(X, Y)
    assert called == []
    assert all(bool((param.grad == 1).all()) for param in (*net[0].parameters(), *net[1].parameters()))
    assert net[4].weight.grad is None
    assert [each.training for each in net.modules()] == modes
    assert net[1].track_running_stats
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])
    assert X.requires_grad is False
    if mode == "eval":
        assert torch.equal(torch.get_rng_state(), generator)


def test_modes_decide_whose_statistics_an_attack_sees() -> None:
    net = normalized()
    del net[3]
    for mode, trains in (("eval", False), ("keep", True)):
        found = AdversarialLoss(net, PGD(0.2, random_start=False, steps=1, step=0.1), mode=mode).perturb(X, Y)
        other = normalized().train(trains)
        del other[3]
        leaf = X.clone().requires_grad_()
        cross_entropy(other(leaf), Y).backward()
        assert leaf.grad is not None
        assert torch.equal(found, (X + 0.1 * leaf.grad.sign()).clip(0, 1))
        assert torch.equal(net[1].running_mean, torch.zeros(7))


@pytest.mark.parametrize(("make", "attack"), [(normalized, FGSM(0.0)), (mlp, PGD(0.0)), (mlp, PGD(0.0, norm=2))])
def test_without_a_perturbation_the_bits_are_those_of_plain_torch(make: Any, attack: Any) -> None:
    nets = []
    for robust in (False, True):
        torch.manual_seed(0)
        net = make()
        inner = momentum(net.parameters())
        optimizer = loosestep.torch.parallel(net, inner, ls.AllReduceSGD(), ls.Serial()) if robust else inner
        loss: Any = AdversarialLoss(net, attack, parallel=optimizer) if robust else None
        torch.manual_seed(9)  # of dropout
        for x, y in batches(5):
            optimizer.zero_grad()
            (loss(x, y) if robust else cross_entropy(net(x), y)).backward()
            optimizer.step()
        nets.append(left_behind(net, inner))
        if robust:
            optimizer.close()
    assert_same_bits(*nets)


def test_the_loss_is_the_mean_of_both_parts_and_starts_go_by_seed_rank_and_step() -> None:
    net = seeded(0)
    optimizer = loosestep.torch.parallel(
        net, momentum(net.parameters()), ls.LocalSGD(2), ls.Serial(), accumulate=2, seed=6
    )
    robust = AdversarialLoss(net, PGD(0.2), clean=0.5, parallel=optimizer)
    seen = []
    with optimizer:
        for _ in range(3):
            for x, y in batches(2):
                loss = robust(x, y)
                seen.append(robust.last)
                found = robust.found(robust.attack, x, y, robust.last)
                expected = (cross_entropy(net(found), y) + 0.5 * cross_entropy(net(x), y)) / 1.5
                torch.testing.assert_close(loss, expected)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert seen == [Place(6, 0, step, call) for step, call in itertools.product(range(3), range(2))]


def test_it_works_under_autocast_without_gradients_and_in_inference() -> None:
    net = seeded(0)
    robust = AdversarialLoss(net, PGD(0.2))
    with torch.autocast("cpu", torch.bfloat16):
        found = robust.perturb(X, Y)
        robust(X, Y).backward()
        attacked, plain = (cross_entropy(net(each), Y).item() for each in (found, X))
    assert found.dtype == torch.float32
    assert attacked > plain
    assert float((found - X).abs().max()) <= 0.2 + 1e-6
    assert all(param.grad is not None for param in net.parameters())
    expected = robust.found(robust.attack, X, Y, Place())
    for without in (torch.no_grad(), torch.inference_mode()):
        with without:
            assert torch.equal(robust.found(robust.attack, X.clone(), Y, Place()), expected)


def test_half_precision_loses_no_gradient_of_a_large_batch() -> None:
    x, y = X.repeat(1000, 1).half(), Y.repeat(1000)
    net = seeded(0).half()
    loss = lambda scores, labels: cross_entropy(scores.float(), labels)  # noqa: E731
    found = AdversarialLoss(net, PGD(0.2, steps=1, step=0.1, random_start=False), loss).perturb(x, y)
    inner = (x > 0.11) & (x < 0.89)
    assert float((found[inner] != x[inner]).float().mean()) > 0.99


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_lengths_of_rows_are_right_where_their_squares_are_not_in_the_type(dtype: Any) -> None:
    """Rows of zeros, of 3072 features of up to 255, and of gradients that float16 squares to zero."""
    attack = PGD(600.0, step=200.0, norm=2, low=None, high=None)
    x = (torch.arange(2 * 3072.0).reshape(2, -1).sin() * 255).to(dtype)
    for slope, expected in ((torch.zeros_like, 0.0), (lambda at: at * 0 + 1e-4, 600.0)):
        found = replace(attack, random_start=expected > 0).perturb(x, slope)
        assert float((found.double() - x.double()).norm(dim=1).max()) == pytest.approx(expected, rel=0.01)
    starts = PGD(0.5, norm=2, steps=1).perturb(torch.full((2, 4), 0.5, dtype=dtype), torch.zeros_like)
    assert bool(starts.isfinite().all())


def test_a_torch_module_in_run_is_the_same_training() -> None:
    model = loosestep.torch.Model(lambda: seeded(0), lambda net, batch: cross_entropy(net(batch[0]), batch[1]))
    robust = AdversarialModel(model, PGD(0.2, steps=3))
    result = ls.run(
        ls.LocalSGD(4), robust.gradient, model.x0, lambda rank, size: iter(batches(6)), optimizer=ls.SGD(0.1)
    )
    net = seeded(0)
    inner, loss = torch.optim.SGD(net.parameters(), 0.1), AdversarialLoss(net, PGD(0.2, steps=3))
    for x, y in batches(6):
        inner.zero_grad()
        loss(x, y).backward()
        inner.step()
    for ours, theirs in zip(model.module(result.params).parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_module_in_run_may_have_numpy_batches() -> None:
    made = loosestep.torch.Model(
        lambda: seeded(0), lambda net, batch: cross_entropy(net(torch.as_tensor(batch[0])), batch[1])
    )
    slope = made.input_gradient(made.x0, (X.numpy(), Y))
    assert isinstance(slope, np.ndarray)
    assert torch.equal(torch.tensor(slope), made.input_gradient(made.x0, (X, Y)))


def test_an_evaluation_counts_rows_that_are_right_and_stay_right() -> None:
    net = normalized()
    robust = AdversarialLoss(net, PGD(0.05))
    first = robust.evaluate(batches(3))
    assert first == robust.evaluate(iter(batches(3)))
    assert net.training
    net.eval()
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches(3))
    assert first["test_accuracy"] == right / 36
    assert robust.evaluate(batches(3), PGD(0.0))["robust_accuracy"] == right / 36
    torch.manual_seed(2)
    linear = nn.Linear(5, 3, bias=False)
    with torch.no_grad():
        linear.weight -= linear.weight.mean(0)
    wrong = AdversarialLoss(linear, PGD(0.1)).evaluate(
        [(x, (linear(x).argmax(1) + 1) % 3) for x, _ in batches(3)], FGSM(0.9, step=0.0)
    )
    assert wrong == {"test_accuracy": 0, "robust_accuracy": 0}, "a start that makes a row right makes none robust"
    own = AdversarialLoss(linear, PGD(0.5)).evaluate([(x, linear(x).argmax(1)) for x, _ in batches(3)])
    assert own["test_accuracy"] == 1
    assert own["robust_accuracy"] < 0.7


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"module": 3}, TypeError, "module must be a Module, got 3"),
        ({"attack": PGD}, TypeError, "attack must be an Attack"),
        ({"loss": 3}, TypeError, "loss must be a function of (scores, labels), got 3"),
        ({"mode": "train"}, ValueError, "mode must be one of 'eval', 'keep', got 'train'"),
        ({"parallel": "x"}, TypeError, "parallel must be what parallel() returned for one optimizer, got 'x'"),
        ({"clean": math.inf}, ValueError, "clean must be at least 0 and finite, got inf"),
        ({"attack": PGD(targeted=True)}, ValueError, "goes with a targeted attack alone"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_bad_input(options: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        AdversarialLoss(**{"module": mlp(), "attack": PGD(), **options})
    assert sentence in str(caught.value)


def test_what_cannot_be_attacked_or_evaluated() -> None:
    robust = AdversarialLoss(mlp(), PGD())
    with pytest.raises(TypeError, match=r"inputs must be floating-point numbers to be attacked, got torch.int64"):
        robust(Y[None], Y)
    with pytest.raises(ValueError, match=r"inputs must be from low=0.0 to high=1.0, got 2"):
        robust(X + 2, Y)
    with pytest.raises(ValueError, match=r"batches must hold at least one row to be evaluated"):
        robust.evaluate([])
    with pytest.raises(TypeError, match=r"^inputs must be a Tensor, got \[1\]$"):
        robust([1], Y)
