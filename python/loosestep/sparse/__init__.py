"""Lock-free SGD on sparse data, with scikit-learn's face: `pip install 'loosestep[sparse]'`."""

from loosestep.sparse.linear import HogwildClassifier, HogwildRegressor

__all__ = ["HogwildClassifier", "HogwildRegressor"]
