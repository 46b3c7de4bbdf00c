"""What the tables claim is what the fit knows."""

import pytest

from benchmarks.scaling.fit import PowerLaw, Ratio
from benchmarks.scaling.tables import describe_ratios, exponent_of


@pytest.mark.parametrize(("error", "doubted"), [(0.02, False), (0.33, True), (None, False)])
def test_a_lead_within_the_errors_is_called_no_lead(error, doubted):
    ratios = {"matrices + head": Ratio(1.3, 0.41, error), "all parameters": Ratio(0.8, 0.44, error)}
    *_, verdict = describe_ratios(ratios)
    assert verdict.startswith("cleaner is matrices + head, whose ratio varies least")
    assert verdict.endswith("this grid cannot tell them apart") is doubted


def test_an_exponent_has_its_error_where_it_is_known():
    assert exponent_of(PowerLaw(1.0, 0.5, 0.04)) == "C^0.50 ± 0.04"
    assert exponent_of(PowerLaw(1.0, 0.5, None), "${}$") == "$0.50$"
