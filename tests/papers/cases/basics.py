"""Degenerate cases of the methods that came first."""

from __future__ import annotations

from tests.papers.degenerate import ALIKE, FOUR, HEAVY, NESTEROV, NO_MOMENTUM, ONE, S_SGD, STEPS, Case, alone

import loosestep as ls

CASES = {
    # N = 1
    "n=1: local SGD at any period is SGD": alone(ls.LocalSGD(5)),
    "n=1: local SGD with Nesterov is MSGD": alone(ls.LocalSGD(5), NESTEROV),
    "n=1: local SGD with averaged momentum is MSGD": alone(ls.LocalSGD(5, momentum="average"), NESTEROV),
    "n=1: DOWNPOUR at period 1 is SGD": alone(ls.Downpour(1), bits=False),
    "n=1: DOWNPOUR at any period is SGD": alone(ls.Downpour(9), bits=False),
    "n=1: DOWNPOUR with Nesterov is MSGD": alone(ls.Downpour(9), NESTEROV, bits=False),
    "n=1: CDSGD on a ring is SGD": alone(ls.CDSGD(ls.Ring())),
    "n=1: CDSGD on a torus is SGD": alone(ls.CDSGD(ls.Torus())),
    "n=1: CDSGD on a complete graph is SGD": alone(ls.CDSGD(ls.Complete())),
    "n=1: CDMSGD is MSGD": alone(ls.CDSGD(), NESTEROV),
    "n=1: Hogwild is SGD": alone(ls.Hogwild()),
    "n=1: racy Hogwild is SGD": alone(ls.Hogwild("racy")),
    "n=1: Hogwild with heavy ball is heavy ball": alone(ls.Hogwild(), HEAVY),
    "n=1: Hogwild with moments of its own is too": alone(ls.Hogwild(moments="own"), HEAVY),
    # alpha = 0
    "n=1, a=0: EAMSGD is MSGD": Case(ls.EASGD(4, 0.0), "the replica alone", ONE, NESTEROV, bits=True),
    "a=0: EASGD is independent SGD": Case(ls.EASGD(4, 0.0), "replicas alone"),
    "a=0: EASGD, published order, is independent SGD": Case(ls.EASGD(4, 0.0, order="published"), "replicas alone"),
    "a=0: synchronous EASGD is independent SGD": Case(ls.SyncEASGD(4, 0.0), "replicas alone"),
    "a=0: the center of EASGD rests": Case(ls.EASGD(4, 0.0), "the start", bits=True),
    "a=0: the center of synchronous EASGD rests": Case(ls.SyncEASGD(4, 0.0), "the start", bits=True),
    # eta = 0
    "eta=0: local SGD rests": Case(ls.LocalSGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: EASGD rests": Case(ls.EASGD(4), "the start", FOUR, ls.SGD(0.0), bits=True),
    "eta=0: synchronous EASGD rests": Case(ls.SyncEASGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: DOWNPOUR rests": Case(ls.Downpour(4), "the start", FOUR, ls.SGD(0.0), bits=True),
    "eta=0: CDSGD rests": Case(ls.CDSGD(), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: Hogwild rests": Case(ls.Hogwild(), "the start", FOUR, ls.SGD(0.0), bits=True),
    # mu = 0
    "mu=0: Nesterov S-SGD is S-SGD": Case(S_SGD, S_SGD, FOUR, NO_MOMENTUM, bits=True),
    "mu=0: EAMSGD is EASGD": Case(ls.EASGD(4), ls.EASGD(4), FOUR, NO_MOMENTUM, bits=True),
    "mu=0: CDMSGD is CDSGD": Case(ls.CDSGD(), ls.CDSGD(), FOUR, NO_MOMENTUM, bits=True),
    "mu=0: momentum local SGD is local SGD": Case(ls.LocalSGD(4), ls.LocalSGD(4), FOUR, NO_MOMENTUM, bits=True),
    # tau = 1, tau = T
    "tau=1: local SGD is S-SGD": Case(ls.LocalSGD(1), S_SGD),
    "tau=1: local SGD keeping momentum is S-SGD": Case(ls.LocalSGD(1), S_SGD, FOUR, HEAVY, HEAVY),
    "tau=1: local SGD averaging momentum is S-SGD": Case(
        ls.LocalSGD(1, momentum="average"), S_SGD, FOUR, NESTEROV, NESTEROV
    ),
    "tau=1: local SGD forgetting momentum is SGD": Case(ls.LocalSGD(1, momentum="reset"), S_SGD, FOUR, HEAVY),
    "tau=T: local SGD is one-shot averaging": Case(ls.LocalSGD(STEPS), "the mean of all alone"),
    "tau>T: local SGD is one-shot averaging": Case(ls.LocalSGD(10 * STEPS), "the mean of all alone"),
    "alike: the period of local SGD does not matter": Case(ls.LocalSGD(12), ls.LocalSGD(1), ALIKE),
    # W = 11^T / N
    "W=11^T/N: CDSGD is local SGD at period 1, alike": Case(ls.CDSGD(ls.Complete()), S_SGD, ALIKE),
    # alpha = 1: the replicas restart from the old center
    "a=1, b=1: synchronous EASGD from equal starts steps every second time": Case(
        ls.SyncEASGD(1, 1.0, 1.0), "S-SGD with half the steps"
    ),
}
