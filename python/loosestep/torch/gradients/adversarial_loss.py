"""`AdversarialLoss`: adversarial training in a PyTorch loop of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loosestep.adversarial.attack import TESTING, Attack, Place
from loosestep.adversarial.model import check_targets, share_of_clean, tester
from loosestep.foundation import checks
from loosestep.torch.gradients.inputs import Mode, attacking, input_gradient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor


class AdversarialLoss:
    """The loss of a module on inputs that an attack has found: (L(x') + clean L(x)) / (1 + clean).

    Call it with a batch in place of `loss(module(inputs), labels)`, then call backward() as ever. An attack takes
    gradients with respect to inputs alone: `.grad` of parameters stays as it is, and nothing is sent by
    `loosestep.torch.parallel`, which averages what backward() finds once. It works under autocast.

    module: the network.
    attack: `loosestep.adversarial.PGD` or `FGSM`. A network that normalizes its inputs should do so as its first
        layer, so that the attack sees their range.
    loss: (scores, labels) -> the mean over the rows.
    parallel: what `parallel()` returned; random starts are then by its seed, this worker's rank and step. None: by
        `seed` and how often this has been called.
    clean: the share of the loss of clean inputs; None: 1 with PGD and 0 with FGSM.
    targets: labels -> labels that a targeted attack aims at.
    mode: of the module's layers while it is attacked. 'eval': BatchNorm uses its running statistics, dropout is
        off; 'keep': the mode that each layer has, in training the batch's statistics, and dropout. Running
        statistics are not moved either way, and afterwards each layer is in its mode again. cuDNN's recurrent
        layers need 'keep'.
    seed: of random starts, without `parallel`.

    With epsilon 0 and clean 0 the bits are those of plain training. With a clean loss, layers that keep statistics
    see the batch twice.

    >>> import loosestep as ls, loosestep.torch, torch
    >>> net = torch.nn.Linear(2, 2)
    >>> inner = torch.optim.SGD(net.parameters(), 0.5)
    >>> x, y = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])
    >>> with loosestep.torch.parallel(net, inner, ls.AllReduceSGD(), ls.Serial()) as optimizer:
    ...     robust = loosestep.torch.AdversarialLoss(net, ls.adversarial.PGD(0.1), parallel=optimizer)
    ...     for _ in range(40):
    ...         optimizer.zero_grad()
    ...         robust(x, y).backward()
    ...         _ = optimizer.step()
    >>> robust.evaluate([(x, y)])
    {'test_accuracy': 1.0, 'robust_accuracy': 1.0}

    G. Zhang et al., Distributed Adversarial Training to Robustify Deep Neural Networks at Scale, arXiv:2206.06257,
    equations 2 and 3.
    """

    def __init__(
        self,
        module: nn.Module,
        attack: Attack,
        loss: Callable[[Any, Any], Any] = nn.functional.cross_entropy,
        *,
        parallel: Any = None,
        clean: float | None = None,
        targets: Callable[[Any], Any] | None = None,
        mode: Mode = "eval",
        seed: int = 0,
    ) -> None:
        checks.instance("module", module, nn.Module)
        checks.instance("attack", attack, Attack)
        checks.callable_("loss", loss, " of (scores, labels)")
        checks.one_of("mode", mode, ("eval", "keep"))
        check_targets(attack, targets)
        if parallel is not None and not hasattr(parallel, "worker"):
            raise TypeError(f"parallel must be what parallel() returned for one optimizer, got {parallel!r}")
        self.module, self.attack, self.loss, self.mode = module, attack, loss, mode
        self.clean, self.targets = share_of_clean(attack, clean), targets
        self.worker: Any = None if parallel is None else parallel.worker
        self.seed = checks.integer("seed", seed, 0)
        self.last = Place(self.seed, step=-1)

    def __call__(self, inputs: Tensor, labels: Tensor) -> Any:
        """Return the loss of a batch, for backward()."""
        found: Any = self.loss(self.module(self.perturb(inputs, labels)), labels)
        if not self.clean:
            return found
        return (found + self.clean * self.loss(self.module(inputs), labels)) / (1 + self.clean)

    def perturb(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return inputs that the attack has found for the network as it is now."""
        self.last = self.next_place()
        return self.found(self.attack, inputs, labels if self.targets is None else self.targets(labels), self.last)

    def next_place(self) -> Place:
        """Return whose attack comes next: of several in one step, each has a number."""
        worker = self.worker
        if worker is None:
            return self.last._replace(step=self.last.step + 1)
        place = Place(worker.seed, worker.rank, worker.clock)
        return place._replace(call=self.last.call + 1) if place == self.last._replace(call=0) else place

    def found(self, attack: Attack, inputs: Tensor, labels: Tensor, place: Place) -> Tensor:
        """Return what an attack finds."""
        checks.instance("inputs", inputs, torch.Tensor)

        def slope(moved: Tensor) -> Tensor:
            return input_gradient(self.module, moved, lambda leaf: self.loss(self.module(leaf), labels), self.mode)

        moved: Tensor = attack.perturb(inputs.detach(), slope, place)
        return moved

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]], attack: Attack | None = None) -> dict[str, float]:
        """Return `test_accuracy` and `robust_accuracy`: the share of rows whose largest score is the label's.

        Robust are rows that are right as they are and as the attack leaves them.

        batches: of inputs and labels, on the module's device.
        attack: None: PGD with 10 steps of the same ball. Random starts are the same in every evaluation.

        The module is in eval() mode meanwhile.
        """
        attack = tester(self.attack) if attack is None else attack
        checks.instance("attack", attack, Attack)
        right, robust, rows = 0, 0, 0
        with attacking(self.module, "eval"):
            for number, (inputs, labels) in enumerate(batches):
                place = Place(worker=TESTING, step=number)
                clean = self.right(inputs, labels)
                right += int(clean.sum())
                robust += int((clean & self.right(self.found(attack, inputs, labels, place), labels)).sum())
                rows += len(labels)
        if not rows:
            raise ValueError("batches must hold at least one row to be evaluated")
        return {"test_accuracy": right / rows, "robust_accuracy": robust / rows}

    def right(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Say of each row whether its largest score is at the label."""
        with torch.no_grad():
            found: Tensor = self.module(inputs).argmax(1) == labels
        return found
