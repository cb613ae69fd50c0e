"""Sequential stochastic algorithms made parallel: the user says what one sample does to shared variables."""

from __future__ import annotations

from loosestep.splash.adagrad import AdaGrad
from loosestep.splash.run import SplashResult, run
from loosestep.splash.variables import Values, Variables

__all__ = ["AdaGrad", "SplashResult", "Values", "Variables", "run"]
