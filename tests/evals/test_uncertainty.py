"""The standard error of a mean is that of the textbook."""

import numpy as np
import pytest

from evals.uncertainty import standard_error


@pytest.mark.parametrize("values", [[0, 1], [1, 1, 1], [0.25, 0.5, 1.0, 0.0, 0.5]])
def test_it_is_the_deviation_over_the_root_of_the_count(values):
    assert standard_error(values) == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("values", [[], [0.5]])
def test_a_single_value_does_not_tell(values):
    assert standard_error(values) is None
    assert standard_error([0, 1, 1], ["same"] * 3) is None


def test_what_is_in_no_cluster_is_like_no_other():
    values = [0.25, 0.5, 1.0, 0.0, 0.5]
    assert standard_error(values, [None, "", None, "", "a"]) == pytest.approx(standard_error(values))


def test_values_that_are_alike_count_as_one():
    rng = np.random.default_rng(0)
    drawn = rng.random(7)
    copies = np.repeat(drawn, 30)
    clusters = np.repeat(list("abcdefg"), 30).tolist()
    assert standard_error(copies, clusters) == pytest.approx(standard_error(drawn))
    assert standard_error(copies) < 0.3 * standard_error(drawn)


def test_of_clusters_of_one_size_it_is_that_of_their_means():
    values = np.random.default_rng(1).random((6, 5))
    clusters = [name for name in "abcdef" for _ in range(5)]
    assert standard_error(values.ravel(), clusters) == pytest.approx(standard_error(values.mean(axis=1)))


def test_it_is_the_spread_of_means_over_new_draws_of_the_clusters():
    rng = np.random.default_rng(2)
    means, errors = [], []
    for _ in range(600):
        sizes = rng.integers(5, 30, size=40)
        clusters = np.repeat(np.arange(40), sizes)
        values = rng.random(len(clusters)) < np.repeat(rng.beta(0.3, 0.3, size=40), sizes)  # nearly all or nothing
        means.append(values.mean())
        errors.append(standard_error(values.astype(float), clusters.astype(str).tolist()))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
