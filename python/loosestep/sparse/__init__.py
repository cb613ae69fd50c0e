"""Lock-free SGD on sparse data, with scikit-learn's interface: `pip install 'loosestep[sparse]'`."""

from __future__ import annotations

from loosestep.sparse.bayesian import BayesianLogisticRegression
from loosestep.sparse.factorization_machine import FactorizationMachineClassifier, FactorizationMachineRegressor
from loosestep.sparse.linear import HogwildClassifier, HogwildRegressor
from loosestep.sparse.matrix_factorization import MatrixFactorization
from loosestep.sparse.rotation import rotate
from loosestep.sparse.ssfn import SSFNClassifier
from loosestep.sparse.svmlight import read_svmlight, svmlight_blocks

__all__ = [
    "BayesianLogisticRegression",
    "FactorizationMachineClassifier",
    "FactorizationMachineRegressor",
    "HogwildClassifier",
    "HogwildRegressor",
    "MatrixFactorization",
    "SSFNClassifier",
    "read_svmlight",
    "rotate",
    "svmlight_blocks",
]
