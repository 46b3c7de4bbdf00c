"""The fit finds what made the losses, says how well it knows it, and leaves out what it does not know."""

import numpy as np
import pytest

from benchmarks.scaling.fit import IsoFlop, Minimum, compare_ratios, fit_power_law, fit_scaling_law

BUDGETS = (1e17, 3e17, 1e18, 3e18)
EXPONENT, COEFFICIENT = 0.53, 0.02  # of the best parameters


def best_size(budget: float) -> float:
    return COEFFICIENT * budget**EXPONENT


def parabola(budget: float, sizes: np.ndarray, noise: np.ndarray | float = 0.0) -> IsoFlop:
    """Runs whose best size is known, each of 6 FLOPs a parameter and token."""
    bpb = 1.0 + 0.08 * np.log(sizes / best_size(budget)) ** 2 + noise
    return IsoFlop(budget, sizes, budget / (6 * sizes), bpb)


def around(budget: float, count: int = 5, factor: float = 3.0) -> np.ndarray:
    """Sizes up to `factor` times smaller and larger than the best one."""
    return best_size(budget) * np.geomspace(1 / factor, factor, count)


def test_without_noise_the_exponents_are_found_exactly():
    law = fit_scaling_law([parabola(budget, around(budget) * 1.2) for budget in BUDGETS])
    assert law.parameters.exponent == pytest.approx(EXPONENT, abs=1e-6)
    assert law.parameters.coefficient == pytest.approx(COEFFICIENT, rel=1e-4)
    assert law.tokens.exponent == pytest.approx(1 - EXPONENT, abs=1e-6)
    assert [each.parameters for each in law.minima] == pytest.approx([best_size(budget) for budget in BUDGETS])
    for each in law.minima:
        assert 6 * each.parameters * each.tokens == pytest.approx(each.budget) and each.bpb == pytest.approx(1.0)
        assert law.parameters(each.budget) == pytest.approx(each.parameters)


def test_with_noise_the_errors_hold_what_they_promise():
    """Two standard errors are to hold the exponent in 95 of 100 grids; a few less, as the noise is an estimate too."""
    random = np.random.default_rng(0)
    held, deviations, errors = 0, [], []
    for _ in range(300):
        noise = (0.004 * random.standard_normal(5) for _ in BUDGETS)
        grid = [parabola(budget, around(budget), each) for budget, each in zip(BUDGETS, noise, strict=True)]
        law = fit_scaling_law(grid)
        deviations.append(law.parameters.exponent - EXPONENT)
        errors.append(law.parameters.error)
        held += abs(deviations[-1]) < 2 * errors[-1]
        assert law.tokens.exponent == pytest.approx(1 - law.parameters.exponent)
    assert 0.88 < held / 300 <= 0.99
    assert np.mean(errors) == pytest.approx(np.std(deviations), rel=0.3)


def test_the_exponents_of_a_chinchilla_loss_are_found_from_noisy_runs():
    """E + A / N^a + B / D^b: the best N grows by b / (a + b). Its curves are no parabolas, but nearly so."""
    a, b = 0.34, 0.28
    random = np.random.default_rng(1)
    grid = []
    for budget in BUDGETS:
        best = (406.4 * a / (410.7 * b)) ** (1 / (a + b)) * (budget / 6) ** (b / (a + b))
        sizes = best * np.geomspace(0.3, 3, 7)
        tokens = budget / (6 * sizes)
        loss = 1.69 + 406.4 / sizes**a + 410.7 / tokens**b + 0.002 * random.standard_normal(7)
        grid.append(IsoFlop(budget, sizes, tokens, loss))
    law = fit_scaling_law(grid)
    assert abs(law.parameters.exponent - b / (a + b)) < 2 * law.parameters.error < 0.1
    assert abs(law.tokens.exponent - a / (a + b)) < 2 * law.tokens.error < 0.1


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        (8, "the best model is the smallest, or smaller; a larger budget or smaller depths would show it"),
        (1 / 8, "the best model is the largest, or larger; larger depths would show it"),
    ],
)
def test_a_minimum_beyond_the_grid_is_left_out_and_moves_nothing(share, reason):
    grid = [parabola(budget, around(budget)) for budget in BUDGETS]
    grid[0] = parabola(BUDGETS[0], around(BUDGETS[0]) * share)
    law = fit_scaling_law(grid)
    assert law.left_out == {BUDGETS[0]: reason}
    assert [each.budget for each in law.minima] == list(BUDGETS[1:])
    assert law.parameters.exponent == pytest.approx(EXPONENT, abs=1e-6)


def test_a_curve_that_bends_down_has_no_minimum():
    sizes = around(BUDGETS[0])
    law = fit_scaling_law([IsoFlop(BUDGETS[0], sizes, 1e18 / sizes, -parabola(BUDGETS[0], sizes).bpb)])
    assert law.left_out == {BUDGETS[0]: "bits per byte have no minimum among these depths"}
    assert law.minima == [] and law.parameters is None


def test_a_single_budget_gives_its_minimum_and_no_power_law():
    law = fit_scaling_law([parabola(1e18, around(1e18))])
    assert len(law.minima) == 1 and law.parameters is None and law.tokens is None


def test_three_models_determine_a_parabola_and_leave_no_error():
    law = fit_scaling_law([parabola(budget, around(budget, 3)) for budget in BUDGETS])
    assert [each.parameters_error for each in law.minima] == [None] * 4
    assert law.parameters.exponent == pytest.approx(EXPONENT) and law.parameters.error is not None
    assert fit_scaling_law([parabola(budget, around(budget, 3)) for budget in BUDGETS[:2]]).parameters.error is None


def minimum(budget: float, parameters: float, error: float | None, tokens: float = 1.0) -> Minimum:
    return Minimum(budget, parameters, tokens, 1.0, error, error, error)


def test_minima_count_by_their_errors():
    known = [minimum(budget, budget**0.5, 0.01) for budget in (1e12, 1e14, 1e16)]
    law = fit_power_law([*known, minimum(1e18, 1e12, 3.0)], "parameters")
    assert law.exponent == pytest.approx(0.5, abs=1e-3)


def test_the_error_of_two_minima_is_by_propagation():
    law = fit_power_law([minimum(np.exp(10), 1.0, 0.3), minimum(np.exp(12), 1.0, 0.4)], "parameters")
    assert law.error == pytest.approx(0.5 / 2)


def test_minima_that_scatter_more_than_their_errors_widen_that_of_the_exponent():
    scattered = [minimum(np.exp(10 * i), np.exp(5 * i + shift), 0.01) for i, shift in enumerate((0.0, 1.0, -1.0, 0.0))]
    close = [minimum(np.exp(10 * i), np.exp(5 * i), 0.01) for i in range(4)]
    assert fit_power_law(scattered, "parameters").error > 20 * fit_power_law(close, "parameters").error


def laws_by_two_counts(overhead: float):
    """A grid whose best ratio is always 20 by one way to count, and by another that adds a table to each model."""
    curves, others = [], []
    for budget in BUDGETS:
        best = (budget / 120) ** 0.5
        sizes = best * np.geomspace(1 / 3, 3, 5)
        bpb = 1 + 0.1 * np.log(sizes / best) ** 2
        curves.append(IsoFlop(budget, sizes, budget / (6 * sizes), bpb))
        others.append(IsoFlop(budget, sizes + overhead, budget / (6 * sizes), bpb))
    return {"with tables": fit_scaling_law(others), "without": fit_scaling_law(curves)}


def test_the_cleanest_way_to_count_comes_first():
    ratios = compare_ratios(laws_by_two_counts(2e7))
    assert list(ratios) == ["without", "with tables"]
    assert ratios["without"].mean == pytest.approx(20) and ratios["without"].spread == pytest.approx(0, abs=1e-6)
    assert ratios["with tables"].mean < 20 and ratios["with tables"].spread > 0.1


def test_ratios_are_compared_on_budgets_that_all_ways_have():
    laws = laws_by_two_counts(2e7)
    laws["with tables"].minima[:] = laws["with tables"].minima[:1]
    assert compare_ratios(laws) == {}
    assert compare_ratios({}) == {}
