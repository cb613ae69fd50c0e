"""Degenerate cases of the methods of 2025 and 2026: outer optimizers, sparse averages, centers, two levels."""

from __future__ import annotations

from tests.papers.degenerate import FOUR, HEAVY, NESTEROV, ONE, S_SGD, Case, alone

import loosestep as ls

ADAM = ls.Adam(0.05)
ASYNC = ls.AsyncLocalSGD(4, 0.2, 0.6, delay=1)
KEEPS = {"rate": 0.2, "momentum": 0.6, "keep": -1.0}
NEVER = 10**6

CASES = {
    # one worker, or many that are one
    "n=1: SNOO is DiLoCo": Case(ls.SNOO(4, 0.7, 0.6), ls.DiLoCo(4, 0.7, 0.6), ONE, HEAVY, HEAVY, bits=True),
    "n=1: SNOO with Adam is DiLoCo": Case(ls.SNOO(4), ls.DiLoCo(4, 0.7, 0.8), ONE, ADAM, ADAM, bits=True),
    "a cluster of all with DiLoCo is SNOO": Case(
        ls.Hierarchical(S_SGD, ls.DiLoCo(4, 0.7, 0.6), clusters=4), ls.SNOO(4, 0.7, 0.6), bits=True
    ),
    "m=0, r=1: SNOO is S-SGD": Case(ls.SNOO(4, 1.0, 0.0), S_SGD),
    "n=1: eager DiLoCo is DiLoCo": Case(ls.EagerDiLoCo(4, 0.7, 0.6), ls.DiLoCo(4, 0.7, 0.6), ONE),
    "n=1: Ringmaster is SGD": alone(ls.Ringmaster(), bits=False),
    "n=1: Ringleader is SGD": alone(ls.Ringleader(), bits=False),
    "n=1: FedBuff is SGD": alone(ls.FedBuff(4), bits=False),
    "n=1: SPARTA is SGD": alone(ls.SPARTA(0.4)),
    "n=1: LOSCAR is SGD": alone(ls.LOSCAR(4), bits=False),
    # everything at once
    "equal periods: DES-LOC is local SGD with averaged moments": Case(
        ls.DESLOC(4, 4, 4), ls.LocalSGD(4, momentum="average"), FOUR, ADAM, ADAM, bits=True
    ),
    "equal periods: DES-LOC with heavy ball is momentum local SGD": Case(
        ls.DESLOC(4, 4, 9), ls.LocalSGD(4, momentum="average"), FOUR, HEAVY, HEAVY
    ),
    "moments never: DES-LOC is local SGD": Case(
        ls.DESLOC(4, NEVER, NEVER), ls.LocalSGD(4), FOUR, ADAM, ADAM, bits=True
    ),
    "p=1: SPARTA averages all parameters": Case(
        ls.SPARTA(1.0), ls.LocalSGD(1), FOUR, NESTEROV, NESTEROV, bits=True
    ),
    "p=1: SPARTA-DiLoCo is SNOO": Case(ls.SPARTADiLoCo(1.0, 4, 0.7, 0.6), ls.SNOO(4, 0.7, 0.6)),
    "p=1: LOSCAR is DaSGD that corrects": Case(ls.LOSCAR(4, 2, 1.0), ls.DaSGD(4, 2, "correct"), bits=True),
    "p=1, d=tau: LOSCAR is CoCoD-SGD": Case(ls.LOSCAR(4, 4, 1.0), ls.CoCoDSGD(4), FOUR, HEAVY, HEAVY),
    # averages that are not fed back
    "a=b=0: GPA is S-SGD": Case(ls.GPA(0.0, 0.0), S_SGD, FOUR, NESTEROV, NESTEROV),
    "a=0: GPA is a moving mean": Case(ls.GPA(0.0, 0.9), ls.Averaged(rate=0.1)),
    "a=0: schedule-free training is the running mean": Case(ls.GPA(0.0, None), ls.Averaged()),
    "eta=0: GPA rests": Case(ls.GPA(), "the start", FOUR, ls.SGD(0.0)),
    # bounds that are never met, corrections that are never made
    "R large: Ringmaster is DOWNPOUR": Case(ls.Ringmaster(NEVER), ls.Downpour(1), bits=True),
    "R=n: workers of one speed lose nothing": Case(ls.Ringmaster(4), ls.Downpour(1), bits=True),
    "keep=-1: HeLoCo is asynchronous local SGD": Case(ls.HeLoCo(4, **KEEPS), ASYNC, bits=True),
    "B=1, w=0: FedBuff is asynchronous local SGD": Case(
        ls.FedBuff(4, 1, 0.3, 0.0), ls.AsyncLocalSGD(4, 0.3, 0.0, delay=1)
    ),
    "one cluster, K=1, w=1: HALoS is asynchronous local SGD": Case(
        ls.HALoS((("all", 4),), 4, 1, rate=0.8, outer_delay=1, weight=1.0), ls.AsyncLocalSGD(4, 0.8)
    ),
    # two levels of which one is alone
    "clusters of one: what is between counts": Case(
        ls.Hierarchical(S_SGD, ls.DiLoCo(4), clusters=1), ls.DiLoCo(4), FOUR, NESTEROV, NESTEROV, bits=True
    ),
    "clusters of one: late averages between": Case(
        ls.Hierarchical(S_SGD, ls.CoCoDSGD(4), clusters=1), ls.CoCoDSGD(4), bits=True
    ),
    "clusters of one: a center between": Case(ls.Hierarchical(S_SGD, ASYNC, clusters=1), ASYNC, bits=True),
    "clusters of one: barriers between": Case(ls.Hierarchical(S_SGD, ls.SSP(2), clusters=1), ls.SSP(2), bits=True),
    "a cluster of all: what is within counts": Case(
        ls.Hierarchical(ls.DiLoCo(4), ls.LocalSGD(NEVER), clusters=4), ls.DiLoCo(4), FOUR, HEAVY, HEAVY, bits=True
    ),
    "a cluster of all: neighbours within": Case(
        ls.Hierarchical(ls.CDSGD(), ls.LocalSGD(NEVER), clusters=4), ls.CDSGD(), bits=True
    ),
    "two levels of local SGD are hierarchical local SGD": Case(
        ls.Hierarchical(ls.LocalSGD(2), ls.LocalSGD(8), clusters=2), ls.HierarchicalLocalSGD(((2, 2), (8, None)))
    ),
    "mini-batches in clusters of two and two are hierarchical local SGD": Case(
        ls.Hierarchical(S_SGD, ls.LocalSGD(4), clusters=(("a", 2), ("b", 2))),
        ls.HierarchicalLocalSGD(((1, 2), (4, None))),
    ),
}
