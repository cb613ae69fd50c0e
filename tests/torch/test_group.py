"""Several optimizers in one parallel(), with one worker."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import adamw, assert_same_bits, left_behind, mlp, momentum, seeded, step  # noqa: E402
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

TWO = {"accumulate": [1, 2]}
EACH = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD()], ids=repr)


def several(models: Any, optimizers: Any, strategy: ls.Strategy | None = None, **options: Any) -> Any:
    return loosestep.torch.parallel(models, optimizers, strategy or ls.LocalSGD(2), ls.Serial(), **options)


@EACH
def test_two_optimizers_of_one_model(strategy: ls.Strategy) -> None:
    """The bits of plain torch; a scheduler on one of them sets its rate."""

    def trained(wrapped: bool) -> list[Any]:
        net = seeded(0)
        inners = momentum(net[0].parameters()), adamw(list(net[2].parameters()))
        both: Any = several(net, inners, strategy) if wrapped else inners
        scheduler = torch.optim.lr_scheduler.ExponentialLR(next(iter(both)), 0.5)
        for _ in range(4):
            for optimizer in both:
                optimizer.zero_grad()
            nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
            for optimizer in both:
                optimizer.step()
            scheduler.step()
        if wrapped:
            both.close()
        return left_behind(net, inners[0]) + left_behind(net, inners[1])

    assert_same_bits(trained(True), trained(False))


@EACH
def test_a_gan_with_one_loss(strategy: ls.Strategy) -> None:
    def trained(wrapped: bool) -> list[Any]:
        torch.manual_seed(0)
        g, d = nn.Linear(4, 5), nn.Linear(5, 1)
        inners = momentum(g.parameters()), momentum(d.parameters())
        of_g, of_d = several([g, d], inners, strategy, accumulate=[1, 2]) if wrapped else inners
        for _ in range(4):
            fake = g(torch.randn(3, 4))
            of_d.zero_grad()
            d(fake.detach()).mean().backward()
            (-d(torch.randn(3, 5))).mean().backward()
            of_d.step()
            of_g.zero_grad()
            (-d(fake)).mean().backward()
            of_g.step()
        return left_behind(g, inners[0]) + left_behind(d, inners[1])

    assert_same_bits(trained(True), trained(False))


def test_one_consensus_and_one_checkpoint_for_all(tmp_path: Any) -> None:
    one, other = mlp(), mlp()
    with several([one, other], [momentum(one.parameters()), momentum(other.parameters())], ls.EASGD(2)) as both:
        for number in range(3):
            for net, optimizer in zip((one, other), both, strict=True):
                step(net, optimizer, number)
        mine = [param.detach().clone() for net in (one, other) for param in net.parameters()]
        with both.consensus() as models:
            assert models == [one, other]
            for net, optimizer in zip((one, other), both, strict=True):
                assert optimizer.layout.away
                assert not torch.equal(net[0].weight, mine[0])
        assert both.once(lambda: 3) == 3
        both.save(tmp_path, {"epoch": 1})
        both.optimizers[1].zero_grad()
        for net, optimizer in zip((one, other), both, strict=True):
            step(net, optimizer, 4)
        assert both.restore(tmp_path) == {"epoch": 1}
        assert_same_bits(mine, [param.detach() for net in (one, other) for param in net.parameters()])
        assert both.once(lambda: 3, everywhere=True) == 3
        assert both.mean(2.0) == 2
        assert both.agree("x") == "x"
        assert not both.stopping
        both.stop()
        for net, optimizer in zip((one, other), both, strict=True):
            step(net, optimizer, 5)
        assert both.stopping
    with pytest.raises(RuntimeError, match="the run has ended"):
        both.step()


def test_all_are_stepped_and_thrown_away_together() -> None:
    net = seeded(0)
    both = several(net, [momentum(net[0].parameters()), momentum(net[2].parameters())], batch_norm="sync")
    before = left_behind(net, both.optimizers[0].inner)
    nn.functional.mse_loss(net(torch.ones(2, 5)), torch.ones(2, 3)).backward()
    both.skip()
    assert_same_bits(before, left_behind(net, both.optimizers[0].inner))
    step(net, both)
    assert len(both) == 2
    assert [optimizer.worker.clock for optimizer in both] == [2, 2]
    assert len(both.shard(40, 4)) == 10


@pytest.mark.parametrize(
    ("said", "make"),
    [
        ("optimizers 0 and 1 both hold a parameter of shape", lambda n: ([n], [momentum(n.parameters())] * 2, {})),
        ("no optimizer holds a parameter of model 1", lambda n: ([n, mlp()], [momentum(n.parameters())], {})),
        ("needs a model and an optimizer, got 1 and 0", lambda n: (n, [], {})),
        ("accumulate has 2 numbers, and there are 1", lambda n: (n, [momentum(n.parameters())], TWO)),
    ],
)
def test_lists_that_do_not_fit(said: str, make: Any) -> None:
    models, optimizers, options = make(mlp())
    with pytest.raises(ValueError, match=said):
        several(models, optimizers, **options)


def test_nothing_stays_open_where_the_second_is_refused() -> None:
    one, other = mlp(), mlp().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        several([one, other], [momentum(one.parameters()), momentum(other.parameters())])
    several([one], [momentum(one.parameters())])
