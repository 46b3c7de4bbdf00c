"""The standard error of a difference is that of the bootstrap, and shrinks with what the models share."""

import math

import numpy as np
import pytest

from evals.bits_per_byte.comparison import ModelFigures, difference

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(200, 2000, 400)
HARDNESS = GENERATOR.normal(1.0, 0.3, 400)  # nats a byte of each passage, for any model


def figures(nats, num_bytes=BYTES):
    return ModelFigures("model", np.asarray(nats), np.asarray(num_bytes), 1000, int(sum(num_bytes)), None, "<s>", 64)


def noisy(more, noise):
    return figures((HARDNESS + more + GENERATOR.normal(0, noise, 400)) * BYTES)


def test_the_standard_error_is_that_of_the_bootstrap():
    model, other = noisy(0.05, 0.1), noisy(0.0, 0.1)
    more, error = difference(model, other)
    assert more == pytest.approx(0.05 / math.log(2), abs=3 * error)
    draws = (GENERATOR.integers(0, 400, 400) for _ in range(2000))
    again = [difference(figures(model.nats[d], BYTES[d]), figures(other.nats[d], BYTES[d]))[0] for d in draws]
    assert error == pytest.approx(np.std(again), rel=0.1)


def test_what_is_hard_for_both_adds_no_error():
    model = noisy(0.0, 0.1)
    assert difference(figures(model.nats + 0.05 * BYTES), model)[1] == pytest.approx(0, abs=1e-12)
    assert difference(model, model) == (0.0, 0.0)


def test_a_single_passage_has_no_error():
    assert difference(figures([2.0], [2]), figures([1.0], [2])) == (pytest.approx(0.5 / math.log(2)), None)


def test_figures_follow_from_nats_bytes_and_tokens():
    model = figures([math.log(2) * 300, math.log(2) * 100], [100, 100])
    assert model.bits_per_byte == pytest.approx(2.0) and model.bytes_per_token == 0.2
    assert model.loss == pytest.approx(0.4 * math.log(2)) and model.perplexity == pytest.approx(2**0.4)
    assert figures([1e9], [1]).perplexity == math.inf
