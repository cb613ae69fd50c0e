"""Degenerate cases of Entropy-SGD and Parle."""

from __future__ import annotations

from tests.papers.degenerate import FOUR, HEAVY, NESTEROV, NO_MOMENTUM, ONE, Case, alone

import loosestep as ls

PLAIN = {"pull": 0.0, "averaging": 0.0, "rate": 1.0, "momentum": 0.0}  # a round ends where its inner loop does
SCOPED = ls.Scoping(0.1, 0.5, 2)
PULLED = {"pull": SCOPED, "averaging": 0.5, "rate": 0.4, "momentum": 0.3}


def one_is_entropy_sgd(parle: ls.Parle, optimizer: object = None) -> Case:
    entropy = ls.EntropySGD(parle.period, parle.pull, parle.averaging, rate=parle.rate, momentum=parle.momentum)
    return Case(parle, entropy, ONE, optimizer, optimizer, bits=True)


CASES = {
    # N = 1
    "n=1: Parle is Entropy-SGD": one_is_entropy_sgd(ls.Parle(4)),
    "n=1: Parle is Entropy-SGD, both scoped": one_is_entropy_sgd(ls.Parle(6, coupling=SCOPED, **PULLED)),
    "n=1: Parle with inner Nesterov is Entropy-SGD": one_is_entropy_sgd(ls.Parle(4, **PULLED), NESTEROV),
    "n=1: Parle with heavy ball is Entropy-SGD": one_is_entropy_sgd(ls.Parle(9, **PULLED), HEAVY),
    "n=1, L=1, gamma=inf, a=0, eta=1: Parle is SGD": alone(ls.Parle(1, coupling=0.0, **PLAIN), bits=False),
    "n=1, L=1, gamma=inf, a=0, eta=1: Parle is MSGD": alone(ls.Parle(1, **PLAIN), NESTEROV, bits=False),
    "n=1, L=1, gamma=0, a=0, eta=1: Entropy-SGD is MSGD": alone(ls.EntropySGD(1, **PLAIN), NESTEROV, bits=False),
    "n=1, gamma=0, a=0, eta=1: Entropy-SGD is SGD": alone(ls.EntropySGD(4, **PLAIN), bits=False),
    # 1/rho = 0: independent Entropy-SGD, and that where it is SGD
    "1/rho=0, 1/gamma=0, a=0, eta=1: Parle is independent SGD": Case(
        ls.Parle(4, coupling=0.0, **PLAIN), "replicas alone"
    ),
    # L = 1, 1/gamma = 0: elastic averaging of SGD steps
    "L=1, 1/rho=1: Elastic-SGD averages, then steps": Case(
        ls.Parle(1, coupling=1.0, **PLAIN), ls.CDSGD(ls.Complete()), FOUR
    ),
    "L=1, 1/rho=0: Elastic-SGD is independent SGD": Case(ls.Parle(1, coupling=0.0, **PLAIN), "replicas alone"),
    # what moves nothing
    "eta_in=0: Parle rests": Case(ls.Parle(4), "the start", FOUR, ls.SGD(0.0)),
    "eta_in=0: Entropy-SGD rests": Case(ls.EntropySGD(4), "the start", FOUR, ls.SGD(0.0), bits=True),
    "eta=0: Parle rests": Case(ls.Parle(4, rate=0.0), "the start", FOUR),
    "eta=0: Entropy-SGD rests": Case(ls.EntropySGD(4, rate=0.0), "the start", FOUR, bits=True),
    "a=1: Parle rests": Case(ls.Parle(4, averaging=1.0), "the start", FOUR),
    "a=1: Entropy-SGD rests": Case(ls.EntropySGD(4, averaging=1.0), "the start", FOUR, bits=True),
    # mu = 0 inside, and scoping that is at its end
    "mu=0: Parle with Nesterov is Parle": Case(ls.Parle(4), ls.Parle(4), FOUR, NO_MOMENTUM, bits=True),
    "scoping at its end is a number": Case(
        ls.Parle(4, ls.Scoping(0.2, 0.2, 3), coupling=ls.Scoping(1.5, 1.5, 3)),
        ls.Parle(4, 0.2, coupling=1.5),
        FOUR,
        bits=True,
    ),
}
