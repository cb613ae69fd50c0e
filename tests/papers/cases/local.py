"""Degenerate cases of local SGD's descendants: outer optimizers, groups, fragments, averages that come late."""

from __future__ import annotations

from tests.papers.degenerate import FOUR, HEAVY, NESTEROV, ONE, S_SGD, STEPS, Case, alone

import loosestep as ls

LEVELS = ls.HierarchicalLocalSGD(((4, None),))

CASES = {
    # N = 1
    "n=1: one-shot averaging is SGD": alone(ls.OneShotAveraging()),
    "n=1: post-local SGD is SGD": alone(ls.PostLocalSGD(9, 4)),
    "n=1: hierarchical local SGD with Nesterov is MSGD": alone(ls.HierarchicalLocalSGD(), NESTEROV),
    "n=1: FedAvg is SGD": alone(ls.FedAvg(4)),
    "n=1: BMUF has no momentum": alone(ls.BMUF(4), bits=False),
    "n=1: a delayed average that is corrected is SGD": alone(ls.DaSGD(4, 4, "correct"), bits=False),
    "n=1: CoCoD-SGD is SGD": alone(ls.CoCoDSGD(4), bits=False),
    # eta = 0
    "eta=0: SlowMo rests": Case(ls.SlowMo(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: BMUF rests": Case(ls.BMUF(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: DiLoCo rests": Case(ls.DiLoCo(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: streaming DiLoCo rests": Case(ls.StreamingDiLoCo(3, 2), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: DaSGD rests": Case(ls.DaSGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: CoCoD-SGD rests": Case(ls.CoCoDSGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: Overlap-Local-SGD with momentum rests": Case(
        ls.OverlapLocalSGD(4, anchor_momentum=0.7), "the start", FOUR, ls.SGD(0.0)
    ),
    # without outer momentum
    "m=0, z=1: BMUF is local SGD": Case(ls.BMUF(4, 0.0), ls.LocalSGD(4)),
    "m=0, z=1: Nesterov BMUF is local SGD": Case(ls.BMUF(4, 0.0, form="nesterov"), ls.LocalSGD(4)),
    "b=0, a=1: SlowMo is local SGD": Case(ls.SlowMo(4, 0.0, momentum="keep"), ls.LocalSGD(4), FOUR, HEAVY, HEAVY),
    "b=0, a=1: SlowMo that resets is local SGD that resets": Case(
        ls.SlowMo(4, 0.0), ls.LocalSGD(4, momentum="reset"), FOUR, HEAVY, HEAVY
    ),
    "m=0, r=1: DiLoCo is local SGD": Case(ls.DiLoCo(4, 1.0, 0.0), ls.LocalSGD(4)),
    "m=0, r=1: DiLoCo at period 1 is S-SGD": Case(ls.DiLoCo(1, 1.0, 0.0), S_SGD),
    # tau = 1
    "tau=1, a=1: SlowMo is S-SGD with heavy ball": Case(ls.SlowMo(1, 0.9), S_SGD, FOUR, other_optimizer=HEAVY),
    "tau=1, z=1: BMUF is S-SGD with heavy ball": Case(ls.BMUF(1, 0.9), S_SGD, FOUR, other_optimizer=HEAVY),
    "tau=1, r=1: DiLoCo is S-SGD with Nesterov": Case(
        ls.DiLoCo(1, 1.0, 0.9), S_SGD, FOUR, other_optimizer=NESTEROV
    ),
    "tau=1: FedAvg of all clients is S-SGD": Case(ls.FedAvg(1), S_SGD),
    # the same method by another name
    "classical BMUF is SlowMo": Case(ls.BMUF(4, 0.6, 0.7), ls.SlowMo(4, 0.6, 0.7), bits=True),
    "Nesterov BMUF is DiLoCo": Case(ls.BMUF(4, 0.6, 0.7, "nesterov"), ls.DiLoCo(4, 0.7, 0.6), bits=True),
    "all clients: FedAvg is local SGD": Case(ls.FedAvg(4), ls.LocalSGD(4), bits=True),
    "all steps each: local SGD with steps is local SGD": Case(
        ls.LocalSGD(4, steps=(4, 4, 4, 4)), ls.LocalSGD(4), bits=True
    ),
    # switches, levels, groups
    "never: post-local SGD is S-SGD": Case(ls.PostLocalSGD(None), S_SGD, FOUR, NESTEROV, NESTEROV),
    "never: post-local SGD is local SGD at period 1": Case(ls.PostLocalSGD(None), ls.LocalSGD(1), bits=True),
    "at once: post-local SGD is local SGD": Case(ls.PostLocalSGD(0, 4), ls.LocalSGD(4), bits=True),
    "one level: hierarchical local SGD is local SGD": Case(LEVELS, ls.LocalSGD(4), bits=True),
    "one group: hierarchical local SGD is S-SGD": Case(ls.HierarchicalLocalSGD(((1, 4), (4, None))), S_SGD),
    "groups of one: hierarchical local SGD is local SGD": Case(
        ls.HierarchicalLocalSGD(((1, 1), (4, None))), ls.LocalSGD(4), bits=True
    ),
    "one-shot averaging is the mean of all alone": Case(ls.OneShotAveraging(), "the mean of all alone"),
    "tau=T: local SGD is one-shot averaging, run as such": Case(ls.LocalSGD(STEPS), ls.OneShotAveraging()),
    # delays
    "d=0: DaSGD that replaces is local SGD": Case(ls.DaSGD(4, 0, "replace"), ls.LocalSGD(4), bits=True),
    "d=0: DaSGD that corrects is local SGD": Case(ls.DaSGD(4, 0, "correct"), ls.LocalSGD(4)),
    "k=0: DaSGD that interpolates replaces": Case(ls.DaSGD(4, 2, "lerp", 0.0), ls.DaSGD(4, 2, "replace")),
    "k=1: DaSGD is independent SGD": Case(ls.DaSGD(4, 2, "lerp", 1.0), "replicas alone"),
    "d=tau: DaSGD that corrects is CoCoD-SGD": Case(ls.DaSGD(4, 4, "correct"), ls.CoCoDSGD(4), bits=True),
    "a=0: Overlap-Local-SGD is independent SGD": Case(ls.OverlapLocalSGD(4, 0.0), "replicas alone"),
    "gmf=0: Overlap-Local-SGD is DaSGD": Case(ls.OverlapLocalSGD(4, 0.6), ls.DaSGD(4, 4, "lerp", 0.4)),
    # fragments
    "F=1, d=0, k=0: streaming DiLoCo is DiLoCo": Case(
        ls.StreamingDiLoCo(4, 1, 0, 0.0, 0.7), ls.DiLoCo(4, 0.7), bits=True
    ),
    "k=1: streaming DiLoCo is independent SGD": Case(ls.StreamingDiLoCo(3, 2, 1, 1.0), "replicas alone"),
    "F=1, r=1, m=0: streaming DiLoCo is DaSGD": Case(
        ls.StreamingDiLoCo(4, 1, 2, 0.25, 1.0, 0.0), ls.DaSGD(4, 2, "lerp", 0.25)
    ),
    "n=1, k=0, m=0, r=1: streaming DiLoCo at once is SGD": Case(
        ls.StreamingDiLoCo(2, 2, 0, 0.0, 1.0, 0.0), S_SGD, ONE
    ),
}
