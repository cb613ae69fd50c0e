"""The built-in models: gradients against finite differences and scikit-learn; use from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from loosestep.data.models import MLP, Classifier, Model, Softmax

MODELS = [Softmax(), Softmax(l2=0.1), MLP(7), MLP(6, 5), MLP(6, l2=0.01)]


def batch(rows: int = 9, dtype: str = "f8") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.normal(size=(rows, 5)).astype(dtype), random.integers(0, 4, rows)


def built(model: Model, dtype: str = "f8") -> tuple[Classifier, np.ndarray]:
    classifier = model.build(5, 4, dtype)
    x = classifier.init(seed=1)
    return classifier, x + np.random.default_rng(2).normal(size=x.size).astype(dtype) * 0.1


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_the_gradient_is_the_slope_of_the_loss(model: Model) -> None:
    classifier, x = built(model)
    _, grad = classifier.gradient(x, batch())
    steps = np.eye(x.size) * 1e-6
    slopes = [
        (classifier.gradient(x + step, batch())[0] - classifier.gradient(x - step, batch())[0]) / 2e-6
        for step in steps
    ]
    np.testing.assert_allclose(grad, slopes, atol=1e-7)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_float32_stays_float32_and_nothing_given_is_written(model: Model) -> None:
    classifier, x = built(model, "f4")
    inputs, labels = batch(dtype="f4")
    kept = x.copy(), inputs.copy(), labels.copy()
    _, grad = classifier.gradient(x, (inputs, labels))
    classifier.evaluate(x, (inputs, labels))
    assert grad.dtype == np.float32
    assert grad.shape == (classifier.size,)
    for given, before in zip((x, inputs, labels), kept, strict=True):
        np.testing.assert_array_equal(given, before)


def test_scores_far_apart_overflow_nothing() -> None:
    classifier = Softmax().build(1, 2)
    batch = np.ones((1, 1), "f4"), np.array([1])
    loss, grad = classifier.gradient(np.array([1e4, -1e4, 0, 0], "f4"), batch)
    assert loss == pytest.approx(2e4)
    assert np.isfinite(grad).all()


def test_the_loss_of_random_guessing_is_the_logarithm_of_the_classes() -> None:
    classifier = Softmax().build(5, 4)
    loss, _ = classifier.gradient(np.zeros(classifier.size, "f4"), batch(dtype="f4"))
    assert loss == pytest.approx(np.log(4))


def test_the_start_depends_on_the_seed_alone_and_has_the_variance_of_he() -> None:
    classifier = MLP(200).build(300, 10)
    np.testing.assert_array_equal(classifier.init(5), classifier.init(5))
    assert (classifier.init(5) != classifier.init(6)).any()
    (first, biases), _ = classifier.layers(classifier.init(5))
    assert first.var() == pytest.approx(2 / 300, rel=0.02)
    assert not biases.any()


def test_evaluation_in_blocks_equals_evaluation_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, x = built(MLP(6, l2=0.01))
    at_once = classifier.evaluate(x, batch(100))
    monkeypatch.setattr("loosestep.data.models.BLOCK", 7)
    in_blocks = classifier.evaluate(x, batch(100))
    assert in_blocks["test_accuracy"] == at_once["test_accuracy"]
    assert in_blocks["loss"] == pytest.approx(at_once["loss"])
    assert at_once["loss"] == pytest.approx(classifier.gradient(x, batch(100))[0])


def test_several_threads_at_once_get_what_one_gets() -> None:
    classifier, x = built(MLP(64, 32), "f4")
    _, alone = classifier.gradient(x, batch(64, dtype="f4"))
    with ThreadPoolExecutor(4) as pool:
        grads = list(pool.map(lambda _: classifier.gradient(x, batch(64, dtype="f4"))[1], range(200)))
    assert all(np.array_equal(grad, alone) for grad in grads)


def test_logistic_regression_of_scikit_learn_ends_where_our_gradient_vanishes() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    inputs, labels = batch(60)
    theirs = linear.LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    classifier = Softmax(l2=1 / 60).build(5, 4, "f8")  # they sum losses, we take the mean
    x = np.concatenate([theirs.coef_.T.ravel(), theirs.intercept_])
    assert np.abs(classifier.gradient(x, (inputs, labels))[1]).max() < 1e-6


def test_the_perceptron_of_scikit_learn_has_our_loss_and_gradient() -> None:
    neural = pytest.importorskip("sklearn.neural_network")
    inputs, labels = batch(40)
    theirs = neural.MLPClassifier((6, 5), alpha=0.0, solver="sgd", momentum=0.0, learning_rate_init=0.1)
    theirs.set_params(batch_size=40, shuffle=False)
    theirs.partial_fit(inputs, labels, classes=range(4))
    classifier = MLP(6, 5).build(5, 4, "f8")
    before = _flat(theirs)
    loss, grad = classifier.gradient(before, (inputs, labels))
    theirs.partial_fit(inputs, labels)
    assert theirs.loss_ == pytest.approx(loss)
    np.testing.assert_allclose(_flat(theirs), before - 0.1 * grad, atol=1e-12)


def _flat(theirs: object) -> np.ndarray:
    layers = zip(theirs.coefs_, theirs.intercepts_, strict=True)
    return np.concatenate([part.ravel() for layer in layers for part in layer])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MLP(0), "a hidden layer must be at least 1, got 0"),
        (lambda: MLP(2.5), "a hidden layer must be an integer, got 2.5"),
        (lambda: Softmax(l2=-1), "l2 must be at least 0 and finite, got -1"),
        (lambda: Softmax().build(0, 3), "features must be at least 1, got 0"),
    ],
)
def test_bad_models_are_refused_in_a_sentence(make: object, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        make()


@pytest.mark.parametrize("model", [*MODELS, MLP()], ids=repr)
def test_models_print_as_they_are_written_and_compare_by_content(model: Model) -> None:
    again = eval(repr(model), {"MLP": MLP, "Softmax": Softmax})
    assert again == model
    assert hash(again) == hash(model)
    assert repr(again) == repr(model)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_the_gradient_of_the_inputs_is_the_slope_of_the_loss(model: Model) -> None:
    classifier, x = built(model)
    inputs, labels = batch(3)
    kept = inputs.copy()
    slopes = [
        (classifier.gradient(x, (inputs + way, labels))[0] - classifier.gradient(x, (inputs - way, labels))[0])
        / 2e-6
        for way in (np.eye(inputs.size) * 1e-6).reshape(-1, *inputs.shape)
    ]
    found = classifier.input_gradient(x, (inputs, labels))
    np.testing.assert_allclose(found.ravel(), slopes, atol=1e-7)
    np.testing.assert_array_equal(inputs, kept)
