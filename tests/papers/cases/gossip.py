"""Degenerate cases of methods that mix with neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from tests.papers.degenerate import ALIKE, FOUR, HEAVY, NESTEROV, ONE, S_SGD, Case, alone

import loosestep as ls


@dataclass(frozen=True, repr=False)
class Alone(ls.Topology):
    """W = I."""

    symmetric = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return {rank: 1.0}


RING, ALL, PAIRS = ls.Ring(), ls.Complete(), ls.RandomMatching()
TWO_LEVELS = ls.HierarchicalLocalSGD(((1, 2), (4, None)))

CASES = {
    # the same rule by other names
    "D-PSGD that combines first is CDSGD": Case(ls.DPSGD(RING), ls.CDSGD(RING), bits=True),
    "D-PSGD that adapts first is SGP on a regular graph": Case(ls.DPSGD(RING, "adapt"), ls.SGP(RING), bits=True),
    "overlap SGP on a regular graph is D-PSGD": Case(ls.OverlapSGP(RING), ls.DPSGD(RING)),
    "overlap SGP without delay is SGP": Case(ls.OverlapSGP(RING, delay=0), ls.SGP(RING)),
    "overlap SGP all to all is CoCoD-SGD": Case(ls.OverlapSGP(ALL, 4), ls.CoCoDSGD(4)),
    "mu=0: DecentLaM is D-PSGD that adapts first": Case(ls.DecentLaM(RING, 0.0), ls.DPSGD(RING, "adapt")),
    "mu=0: momentum that is mixed is none": Case(ls.DPSGD(RING, momentum="mix"), ls.DPSGD(RING), bits=True),
    "in pairs elastic gossip averages": Case(ls.ElasticGossip(PAIRS, 1), ls.DPSGD(PAIRS, "adapt"), bits=True),
    "one round of i-CDSGD is CDSGD": Case(ls.CDSGD(ls.Torus(), 1), ls.CDSGD(ls.Torus()), bits=True),
    "pairs of all are all": Case(ls.NoLoCo(ls.RandomMatching(group=4), 4), ls.NoLoCo(ALL, 4), bits=True),
    # W = 11^T / N
    "W=11^T/N: D-PSGD that adapts first is S-SGD": Case(ls.DPSGD(ALL, "adapt"), S_SGD),
    "W=11^T/N: momentum that is mixed is S-SGD's": Case(
        ls.DPSGD(ALL, "adapt", "mix"), S_SGD, FOUR, NESTEROV, NESTEROV
    ),
    "W=11^T/N: D2 is S-SGD": Case(ls.D2(ALL), S_SGD),
    "W=11^T/N: elastic gossip is local SGD": Case(ls.ElasticGossip(ALL, 4), ls.LocalSGD(4)),
    "W=11^T/N: NoLoCo is BMUF": Case(ls.NoLoCo(ALL, 4, 0.7, 0.5), ls.BMUF(4, block_momentum=0.5, rate=0.7)),
    "W=11^T/N, m=0: NoLoCo is local SGD": Case(ls.NoLoCo(ALL, 4, 1.0, 0.0), ls.LocalSGD(4)),
    "W=11^T/N: GASLoC is DiLoCo, alike": Case(ls.GASLoC(ALL, 4, 0.7, momentum=0.5), ls.DiLoCo(4, 0.7, 0.5), ALIKE),
    "W=11^T/N, m=0: GASLoC is local SGD": Case(ls.GASLoC(ALL, 4, 1.0, momentum=0.0), ls.LocalSGD(4)),
    # W = I
    "W=I: D-PSGD is independent SGD": Case(ls.DPSGD(Alone()), "replicas alone"),
    "W=I: D2 is independent SGD": Case(ls.D2(Alone()), "replicas alone"),
    "W=I: gradient tracking is independent SGD": Case(ls.GradientTracking(Alone()), "replicas alone"),
    "omega=0: g-CDSGD is independent SGD": Case(ls.CDSGD(RING, trade_off=0.0), "replicas alone", bits=True),
    "omega=1: g-CDSGD is consensus alone": Case(ls.CDSGD(RING, trade_off=1.0), "the start"),
    "a=0: elastic gossip is independent SGD": Case(ls.ElasticGossip(RING, 4, 0.0), "replicas alone"),
    "p=0: GoSGD is independent SGD": Case(ls.GoSGD(0.0), "replicas alone"),
    # N = 1
    "n=1: D2 is SGD": alone(ls.D2()),
    "n=1: gradient tracking is MSGD": alone(ls.GradientTracking(), NESTEROV),
    "n=1: D-PSGD with heavy ball is heavy ball": alone(ls.DPSGD(), HEAVY),
    "n=1: CDMSGD of the paper is MSGD": Case(ls.CDSGD(momentum=0.9), S_SGD, ONE, None, NESTEROV),
    "n=1: DecentLaM is heavy ball": Case(ls.DecentLaM(momentum=0.9), S_SGD, ONE, None, HEAVY),
    "n=1: AD-PSGD is SGD": alone(ls.ADPSGD(), bits=False),
    "n=1: overlap SGP is SGD": alone(ls.OverlapSGP(), bits=False),
    # clusters
    "one cluster: SD-FEEL is federated averaging": Case(ls.SDFEEL(clients=4, period=4), ls.FedAvg(4), bits=True),
    "one cluster, asynchronous: SD-FEEL is too": Case(
        ls.SDFEEL(clients=4, period=4, mode="asynchronous"), ls.FedAvg(4)
    ),
    "servers that all meet: SD-FEEL is hierarchical local SGD": Case(ls.SDFEEL(ALL), TWO_LEVELS),
    "a worker a cluster: SD-FEEL is local SGD": Case(ls.SDFEEL(ALL, 1, 4, 1), ls.LocalSGD(4)),
}
