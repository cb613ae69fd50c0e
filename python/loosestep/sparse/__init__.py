"""Lock-free SGD on sparse data, with scikit-learn's face. Needs scikit-learn (`pip install loosestep[demo]`)."""

from __future__ import annotations

from loosestep.sparse.factorization import MatrixFactorization
from loosestep.sparse.machine import FactorizationMachineClassifier, FactorizationMachineRegressor

__all__ = ["FactorizationMachineClassifier", "FactorizationMachineRegressor", "MatrixFactorization"]
