"""The rows that contenders train on, and what is counted and fitted of them."""

from __future__ import annotations

import numpy as np
from bench.papers.rows import noisy, pooled, rows_of
from bench.papers.studies import linear_speedup, sparsity, tail_averaging
from bench.papers.tables import late, number

import loosestep as ls
from loosestep.data import Dataset


def images(rows: int) -> Dataset:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((rows, 16), np.float32), np.arange(rows) % 10
    return Dataset("images", x, y, x[:20], y[:20])


def test_pooled_images_are_the_means_of_four_pixels() -> None:
    data = images(20)
    small = pooled(data)
    assert small.x_train.shape == (20, 4)
    picture = data.x_train[3].reshape(4, 4)
    corners = [picture[:2, :2], picture[:2, 2:], picture[2:, :2], picture[2:, 2:]]
    assert np.allclose(small.x_train[3], [corner.mean() for corner in corners])
    assert (small.y_train == data.y_train).all()


def test_noise_is_in_training_labels_alone_and_always_the_same() -> None:
    data = images(20_000)
    first, second = noisy(data), noisy(data)
    assert (first.y_train == second.y_train).all()
    assert (first.y_test == data.y_test).all()
    assert abs((first.y_train != data.y_train).mean() - 0.3 * 0.9) < 0.01, "one in ten drawn anew is as it was"


def test_changes_are_part_of_the_name() -> None:
    assert rows_of("made-up, noisy").name == "made-up, noisy"
    assert len(rows_of("made-up, noisy", 50).y_train) == 50


def test_a_fit_finds_the_law_that_made_the_points() -> None:
    here: dict[float | None, list[float | None]] = {
        float(batch): [3000 / batch + 20.0] for batch in (2, 8, 32, 128, 512)
    }
    found = sparsity.fit(here, 0)
    assert found is not None
    assert np.allclose(found, [3000, 20, 150, 0])
    assert sparsity.fit({2.0: [9.0], 8.0: [None], 32.0: [4.0]}, 0) is None, "two points are no fit"


def test_quadratics_that_differ_have_the_mean_of_those_that_are_alike() -> None:
    alike = linear_speedup.problem(linear_speedup.ALIKE, 4, 0)
    curvature, minimum, start = linear_speedup.problem(linear_speedup.DIFFERENT, 4, 0)
    assert np.allclose(curvature.mean(axis=0), alike[0].mean(axis=0))
    assert abs((curvature * minimum).sum(axis=0)).max() < 1e-12, "the mean of all has its minimum at 0"
    assert (start == alike[2]).all()
    assert (curvature > 0).all()


def test_a_noiseless_start_decays_and_the_tail_forgets_it() -> None:
    """With 64 batches of 16 rows the tail's mean is near d / n."""
    (found,) = tail_averaging.measure(tail_averaging.contender(tail_averaging.TAIL, 1024, 16), 0, 1).points
    assert 0.7 < found["risk"] < 1.6


def test_the_end_of_a_noisy_curve_is_a_mean() -> None:
    points = [{"test_accuracy": value} for value in (0.1, 0.7, 0.9)]
    assert late("test_accuracy", 2)(points) == 0.8


def test_numbers_have_no_exponents() -> None:
    assert number(1629.4, ".3g") == "1629"
    assert number(1.234, ".3g") == "1.23"
    assert number(1e12, ".3g") == "1e+12"


def test_snip_and_random_masks_of_a_study_are_the_seeds_own() -> None:
    data = rows_of("made-up")
    for model in (sparsity.Pruned(0.9), sparsity.Pruned(0.9, "random")):
        classifier = model.build(data.features, data.classes)
        masks = [model.mask(classifier, classifier.init(seed), data, seed) for seed in (0, 0, 1)]
        assert masks[0] == masks[1] != masks[2]
        assert masks[0].kept == classifier.size - round(0.9 * (8 * 64 + 64 * 10))
    assert isinstance(sparsity.STUDY.contenders[0].candidates()[0].optimizer, ls.Momentum)
