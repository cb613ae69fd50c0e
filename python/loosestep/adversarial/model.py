"""A model whose gradients are those of attacked inputs, for the library's own loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loosestep.adversarial.attack import TESTING, Attack, Place
from loosestep.adversarial.pgd import PGD
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from loosestep.requests.worker import Worker

BLOCK = 1024
"""Rows attacked at a time in an evaluation."""


class Differentiable(Protocol):
    """What a model must have: `loosestep.data.models` and `loosestep.torch.Model` do."""

    def gradient(self, params: Any, batch: Any) -> Any:
        """Return the gradient of the mean loss of a batch, or (loss, gradient)."""

    def input_gradient(self, params: Any, batch: Any) -> Any:
        """Return the gradient of the loss with respect to the batch's inputs, in their shape.

        Of each row it may be any positive multiple.
        """


def check_model(model: Any) -> None:
    """Refuse a model that gives no gradients with respect to parameters or inputs."""
    for name, of in (("gradient", "parameters"), ("input_gradient", "inputs")):
        if not callable(getattr(model, name, None)):
            raise TypeError(
                f"model must have {name}(params, (inputs, labels)), which returns the gradient of the loss with "
                f"respect to {of}, and {type(model).__name__} has none"
            )


def share_of_clean(attack: Attack, clean: float | None) -> float:
    """Return the share of the clean loss: the attack's own unless another is said."""
    if clean is None:
        return attack.clean
    checks.positive("clean", clean, zero=True)
    return clean


def check_targets(attack: Attack, targets: Any) -> None:
    """Refuse targets without a targeted attack, and the other way round."""
    if attack.targeted != (targets is not None):
        raise ValueError(
            f"targets, a function of the labels that returns those aimed at, goes with a targeted attack alone, "
            f"got {attack!r} and targets={targets!r}"
        )
    if targets is not None:
        checks.callable_("targets", targets, " of labels")


def split(answer: Any) -> tuple[float | None, Any]:
    """Return loss and gradient of what a gradient function returned."""
    return (float(answer[0]), answer[1]) if isinstance(answer, tuple) else (None, answer)


class AdversarialGradient:
    """The gradient function of an `AdversarialModel`: (params, batch) -> (loss, gradient).

    `run` asks it for each worker's own, whose random starts are by the run's seed, the worker's rank and its step.
    Called by itself it is that of worker 0 at its first step.
    """

    def __init__(
        self,
        model: Differentiable,
        attack: Attack,
        clean: float,
        targets: Callable[[Any], Any] | None = None,
        worker: Worker | None = None,
    ) -> None:
        self.model, self.attack, self.clean, self.targets, self.worker = model, attack, clean, targets, worker

    def for_worker(self, worker: Worker) -> AdversarialGradient:
        """Return the gradient function of one worker."""
        return AdversarialGradient(self.model, self.attack, self.clean, self.targets, worker)

    def place(self) -> Place:
        """Return whose step it is."""
        worker = self.worker
        return Place() if worker is None else Place(worker.seed, worker.rank, worker.clock - 1)

    def perturb(self, params: Any, batch: Any, place: Place) -> Any:
        """Return the batch with inputs that the attack has found."""
        inputs, labels, *rest = batch
        aimed = labels if self.targets is None else self.targets(labels)

        def slope(found: Any) -> Any:
            return self.model.input_gradient(params, (found, aimed, *rest))

        return (self.attack.perturb(inputs, slope, place), labels, *rest)

    def __call__(self, params: Any, batch: Any) -> Any:
        attacked = self.perturb(params, batch, self.place())
        if not self.clean:
            return self.model.gradient(params, attacked)
        loss, gradient = split(self.model.gradient(params, batch))
        total = gradient * self.clean  # a copy: models may use one buffer for all gradients
        found, gradient = split(self.model.gradient(params, attacked))
        total += gradient
        total /= 1 + self.clean
        return total if loss is None or found is None else ((found + self.clean * loss) / (1 + self.clean), total)


class AdversarialModel:
    """A model that trains on what an attack finds: its loss is (L(x') + clean L(x)) / (1 + clean).

    x' are the inputs that the attack has found for the parameters at hand, anew in every step, by each worker for
    its own batch. Nothing is sent for it: the strategy sends what it always sends. With epsilon 0 the gradient is
    the model's own, bit for bit where `clean` is 0 or 1.

    model: has `gradient(params, (inputs, labels))` and `input_gradient`, the same with respect to inputs; those of
        `loosestep.data.models` and `loosestep.torch.Model` do. For `evaluate` also `evaluate(params, data)`.
    attack: `PGD` or `FGSM`.
    clean: the share of the loss of clean inputs; None: 1 with PGD and 0 with FGSM, as in the paper's release.
        There the losses are added, which for SGD is a rate 1 + clean times ours, and for LAMB the same.
    test: the attack of `evaluate`; None: PGD with 10 steps of the same ball.
    targets: labels -> labels that a targeted attack aims at.

    >>> import loosestep as ls, numpy as np
    >>> from loosestep.adversarial import PGD, AdversarialModel
    >>> from loosestep.data.models import Softmax
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> classifier = Softmax().build(4, 4)
    >>> robust = AdversarialModel(classifier, PGD(0.2, steps=3))
    >>> rows = lambda rank, size: iter([(x[rank::size], y[rank::size])] * 60)
    >>> result = ls.run(
    ...     ls.AllReduceSGD(), robust.gradient, classifier.init(0), rows, optimizer=ls.SGD(0.5), on=ls.Threads(2)
    ... )
    >>> {name: number for name, number in robust.evaluate(result.params, (x, y)).items() if "accuracy" in name}
    {'test_accuracy': 1.0, 'robust_accuracy': 1.0}

    G. Zhang et al., Distributed Adversarial Training to Robustify Deep Neural Networks at Scale, arXiv:2206.06257,
    equations 2 and 3.
    """

    def __init__(
        self,
        model: Differentiable,
        attack: Attack,
        *,
        clean: float | None = None,
        test: Attack | None = None,
        targets: Callable[[Any], Any] | None = None,
    ) -> None:
        check_model(model)
        checks.instance("attack", attack, Attack)
        check_targets(attack, targets)
        self.model, self.attack = model, attack
        self.test = tester(attack) if test is None else test
        checks.instance("test", self.test, Attack)
        if self.test.targeted:
            raise ValueError(f"test must be an attack that is not targeted, got {self.test!r}")
        self.gradient = AdversarialGradient(model, attack, share_of_clean(attack, clean), targets)

    def evaluate(self, params: Any, data: tuple[Any, Any]) -> dict[str, float]:
        """Return what the model's own `evaluate` says of (inputs, labels), and of the inputs that `test` finds.

        Of `test_accuracy` and `loss` these are `robust_accuracy` and `robust_loss`. Random starts are by the place
        of a row alone, the same in every evaluation. A row counts by its attacked input alone, since the model's
        `evaluate` says nothing of rows: a start may make right what was wrong.

        Raises TypeError where the model has no `evaluate`.
        """
        evaluate: Callable[[Any, Any], Mapping[str, float]] | None = getattr(self.model, "evaluate", None)
        if evaluate is None:
            raise TypeError(
                f"model must have evaluate(params, (inputs, labels)) to be evaluated, and "
                f"{type(self.model).__name__} has none"
            )
        inputs, labels = data
        attacker = AdversarialGradient(self.model, self.test, 0.0)
        found = np.empty_like(inputs)
        for number, start in enumerate(range(0, len(inputs), BLOCK)):
            rows = slice(start, start + BLOCK)
            place = Place(worker=TESTING, step=number)
            found[rows] = attacker.perturb(params, (inputs[rows], labels[rows]), place)[0]
        robust = evaluate(params, (found, labels))
        named = {f"robust_{name.removeprefix('test_')}": number for name, number in robust.items()}
        return {**evaluate(params, data), **named}


def tester(attack: Attack) -> Attack:
    """Return the attack by which evaluations measure: PGD with 10 steps, in the same ball and range."""
    return PGD(attack.epsilon, norm=attack.norm, low=attack.low, high=attack.high)
