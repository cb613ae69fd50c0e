"""Which methods, with which periods, codecs and buckets, suit a model, its workers and their links."""

from loosestep.planner.methods.candidates import Candidate, Tariff
from loosestep.planner.methods.links import PRESETS, named
from loosestep.planner.methods.plan import MethodPlan, plan
from loosestep.planner.methods.small_problem import SmallProblem, Trial
from loosestep.planner.methods.steps import Steps

__all__ = ["PRESETS", "Candidate", "MethodPlan", "SmallProblem", "Steps", "Tariff", "Trial", "named", "plan"]
