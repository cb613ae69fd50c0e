"""What a loop may do inside consensus(), and after the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    assert_same_bits,
    backward,
    batches,
    left_behind,
    mlp,
    normalized,
    parallel,
    seeded,
    step,
    train,
)

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

EACH = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD(), ls.EASGD(2)], ids=repr)


def test_passes_inside_a_consensus_do_not_count() -> None:
    net, other = seeded(0), seeded(0)
    optimizer, plain = parallel(net, ls.AllReduceSGD()), parallel(other, ls.AllReduceSGD())
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
    optimizer = parallel(net, ls.EASGD(3))
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
    with parallel(net) as optimizer:
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
    optimizer = parallel(net, strategy)
    step(net, optimizer)
    with pytest.raises(error), optimizer:
        raise error
    trained = net[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match=rf"ended with an error \({error.__name__}\), so there is no consensus"):
        optimizer.once(lambda: None)
    assert torch.equal(net[0].weight, trained)


def test_statistics_recomputed_from_batches() -> None:
    torch.manual_seed(0)
    net = normalized()
    optimizer = parallel(net, ls.EASGD(2), buffers="recompute")
    train(net, optimizer, batches(4))
    kept = [tensor.clone() for tensor in net.buffers()]
    with (
        pytest.raises(ValueError, match=r"consensus\(batches\) goes with buffers='recompute'"),
        optimizer.consensus(),
    ):
        pass
    rows = torch.randn(64, 5)
    with optimizer.consensus([rows]):
        torch.testing.assert_close(net[1].running_mean, net[0](rows).mean(0).detach())
    assert_same_bits(list(net.buffers()), kept)


def test_consensus_after_the_end() -> None:
    net = normalized()
    optimizer = parallel(net, ls.EASGD(2))
    with optimizer:
        train(net, optimizer, batches(4))
    mine = optimizer.worker.params.copy()
    with optimizer.consensus():
        assert (optimizer.worker.params != mine).any()
    np.testing.assert_array_equal(optimizer.worker.params, mine)
