"""Degenerate cases of the methods with a center."""

from __future__ import annotations

from tests.papers.degenerate import ALIKE, FOUR, HEAVY, NESTEROV, NO_MOMENTUM, ONE, STEPS, Case, alone

import loosestep as ls

DOWNPOUR = ls.Downpour(1)
REST = ls.SGD(0.0)

CASES = {
    # N = 1
    "n=1: MDOWNPOUR without momentum is SGD": alone(ls.MomentumDownpour(0.0), bits=False),
    "n=1: MDOWNPOUR is MSGD": Case(ls.MomentumDownpour(0.9, 1.0), ls.AllReduceSGD(), ONE, None, NESTEROV),
    "n=1: DC-ASGD is SGD": alone(ls.DCASGD(), bits=False),
    "n=1: DC-ASGD of constant strength is SGD": alone(ls.DCASGD(0.7, decay=1.0), bits=False),
    "n=1: SSP is SGD": alone(ls.SSP(), bits=False),
    "n=1: partially synchronous SGD is SGD": alone(ls.PartiallySynchronous(), bits=False),
    "n=1: weed-out is SGD": alone(ls.WeedOut(), bits=False),
    "n=1: weed-out with heavy ball is heavy ball": alone(ls.WeedOut(3), HEAVY, bits=False),
    "n=1: asynchronous local SGD without momentum is SGD": alone(ls.AsyncLocalSGD(4, 1.0, 0.0), bits=False),
    # a = 0, lambda = 0, mu = 0
    "a=0: round-robin EASGD is independent SGD": Case(ls.RoundRobinEASGD(0.0), "replicas alone"),
    "a=0: the center of round-robin EASGD rests": Case(ls.RoundRobinEASGD(0.0), "the start", bits=True),
    "a=0: round-robin EASGD is EASGD": Case(
        ls.RoundRobinEASGD(0.0), ls.EASGD(1, 0.0, order="published"), bits=True
    ),
    "in turn: EASGD is round-robin EASGD": Case(ls.RoundRobinEASGD(0.2), ls.EASGD(1, 0.2, order="published")),
    "mu=0: round-robin EAMSGD is EASGD": Case(
        ls.RoundRobinEASGD(), ls.RoundRobinEASGD(), FOUR, NO_MOMENTUM, bits=True
    ),
    "lambda=0: DC-ASGD is asynchronous SGD": Case(ls.DCASGD(0.0), DOWNPOUR),
    "mu=0: MDOWNPOUR is DOWNPOUR": Case(ls.MomentumDownpour(0.0), DOWNPOUR, bits=True),
    "mu=0, N=1: asynchronous local SGD is DOWNPOUR": Case(ls.AsyncLocalSGD(4, 1.0, 0.0, delay=1), ls.Downpour(4)),
    # eta = 0
    "eta=0: ADMM rests": Case(ls.RoundRobinADMM(), "the start", FOUR, REST),
    "eta=0: round-robin EASGD rests": Case(ls.RoundRobinEASGD(), "the start", FOUR, REST, bits=True),
    "eta=0: ADOWNPOUR rests": Case(ls.AveragedDownpour(), "the start", FOUR, REST, bits=True),
    "eta=0: MDOWNPOUR rests": Case(ls.MomentumDownpour(), "the start", FOUR, REST, bits=True),
    "eta=0: DC-ASGD rests": Case(ls.DCASGD(), "the start", FOUR, REST, bits=True),
    "eta=0: SSP rests": Case(ls.SSP(), "the start", FOUR, REST, bits=True),
    "eta=0: partially synchronous SGD rests": Case(ls.PartiallySynchronous(), "the start", FOUR, REST, bits=True),
    "eta=0: weed-out rests": Case(ls.WeedOut(), "the start", FOUR, REST, bits=True),
    "eta=0: asynchronous local SGD rests": Case(ls.AsyncLocalSGD(), "the start", FOUR, REST, bits=True),
    # bounds that are never met
    "s large: SSP is DOWNPOUR": Case(ls.SSP(25), DOWNPOUR, bits=True),
    "period=T: partially synchronous SGD is DOWNPOUR": Case(ls.PartiallySynchronous(STEPS), DOWNPOUR, bits=True),
    "queue=all: weed-out is DOWNPOUR": Case(ls.WeedOut(1, queue=10**6), DOWNPOUR, bits=True),
    "queue=n: workers of one speed lose nothing": Case(ls.WeedOut(4, queue=4), ls.Downpour(4), bits=True),
    # bounds that leave no freedom
    "s=0: SSP is partially synchronous SGD of period 1": Case(ls.SSP(1), ls.PartiallySynchronous(1), bits=True),
    "weight=1: the average is the center": Case(ls.AveragedDownpour(4, weight=1.0), ls.Downpour(4)),
    "N=1: delayed Nesterov is MDOWNPOUR": Case(
        ls.AsyncLocalSGD(1, 1.0, 0.9, delay=1), ls.MomentumDownpour(0.9, 1.0)
    ),
    "equal speeds: DyLU changes nothing": Case(
        ls.AsyncLocalSGD(4, speeds=(2.0,) * 4), ls.AsyncLocalSGD(4), ALIKE, bits=True
    ),
}
