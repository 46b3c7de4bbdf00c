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
