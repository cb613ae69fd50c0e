"""Degenerate cases of large batches, averages and schedules."""

from __future__ import annotations

from tests.papers.degenerate import ALIKE, FOUR, HEAVY, NESTEROV, ONE, S_SGD, STEPS, Case, alone
from tests.papers.problems import RATE

import loosestep as ls

NEVER, STANDING = 10**9, ls.schedules.StepDecay(RATE, at=(STEPS,))
PLAIN_LARS = ls.LARS(0.01, 0.0, 0.0, vectors=True)

CASES = {
    # averages
    "start=T: a tail average is the last iterate": Case(ls.Averaged(start=STEPS), S_SGD, bits=True),
    "start>T: it is the last iterate": Case(ls.Averaged(start=NEVER), S_SGD, bits=True),
    "a=1: a moving mean is the last iterate": Case(ls.Averaged(rate=1.0), S_SGD),
    "a=0: a moving mean rests": Case(ls.Averaged(rate=0.0), "the start", bits=True),
    "eta=0: an average rests": Case(ls.Averaged(), "the start", FOUR, ls.SGD(0.0)),
    "n=1, start=T: a tail average is SGD": alone(ls.Averaged(start=STEPS)),
    # schedules
    "one part: a schedule is its strategy": Case(ls.Stages((ls.LocalSGD(4), None)), ls.LocalSGD(4), bits=True),
    # rates and optimizers
    "a warm-up from its own rate changes nothing": Case(
        S_SGD, S_SGD, FOUR, ls.Momentum(ls.schedules.Warmup(RATE, 9, start=RATE)), ls.Momentum(RATE), bits=True
    ),
    "drops after the end change nothing": Case(S_SGD, S_SGD, FOUR, ls.Nesterov(STANDING), NESTEROV, bits=True),
    "mu=0: correction changes nothing": Case(
        S_SGD, S_SGD, FOUR, ls.Momentum(ls.schedules.Cosine(RATE, 30), 0.0), ls.SGD(ls.schedules.Cosine(RATE, 30))
    ),
    "a=1: RMSprop warm-up is heavy ball": Case(
        S_SGD, S_SGD, FOUR, ls.RMSpropWarmup(RATE, center=0.0, width=0.0), HEAVY
    ),
    "eta=0: LARS rests": Case(S_SGD, "the start", ALIKE, ls.LARS(0.0)),
    "eta=0: LAMB rests": Case(S_SGD, "the start", ALIKE, ls.LAMB(0.0)),
    "n=1: LARS in local SGD is LARS": Case(ls.LocalSGD(3), S_SGD, ONE, PLAIN_LARS, PLAIN_LARS, True),
}
