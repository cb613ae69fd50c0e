"""Lock-free SGD on sparse data, with scikit-learn's face: `pip install 'loosestep[sparse]'`."""

from __future__ import annotations

from loosestep.sparse.factorization import MatrixFactorization
from loosestep.sparse.linear import HogwildClassifier, HogwildRegressor
from loosestep.sparse.machine import FactorizationMachineClassifier, FactorizationMachineRegressor
from loosestep.sparse.reading import read_svmlight, svmlight_blocks
from loosestep.sparse.rotation import rotate

__all__ = [
    "FactorizationMachineClassifier",
    "FactorizationMachineRegressor",
    "HogwildClassifier",
    "HogwildRegressor",
    "MatrixFactorization",
    "read_svmlight",
    "rotate",
    "svmlight_blocks",
]
