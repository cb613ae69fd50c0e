"""Lock-free SGD on sparse data, with scikit-learn's face: `pip install 'loosestep[sparse]'`."""

from loosestep.sparse.linear import HogwildClassifier, HogwildRegressor
from loosestep.sparse.reading import read_svmlight, svmlight_blocks

__all__ = ["HogwildClassifier", "HogwildRegressor", "read_svmlight", "svmlight_blocks"]
