"""Scaling laws from an isoFLOP grid: the best model for each budget, and power laws through them.

The second approach of Chinchilla (arXiv 2203.15556, section 3.2), with an error beside every figure. Errors are
standard errors of natural logarithms: 0.1 is about 10%.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # points that determine a parabola


@dataclass(frozen=True)
class IsoFlop:
    """Runs of one budget: arrays of the same length, (K,), sorted by parameters."""

    budget: float  # FLOPs
    parameters: np.ndarray
    tokens: np.ndarray
    bpb: np.ndarray  # bits per byte


@dataclass(frozen=True)
class Parabola:
    """Bits per byte over x = ln(parameters) - center: curvature x^2 + slope x + level."""

    center: float
    curvature: float
    slope: float
    level: float
    covariance: np.ndarray  # (3, 3), of the three coefficients for residuals with a variance of 1
    squares: float  # sum of squared residuals

    def __call__(self, parameters: float | np.ndarray) -> float | np.ndarray:
        return np.polyval((self.curvature, self.slope, self.level), np.log(parameters) - self.center)


@dataclass(frozen=True)
class Minimum:
    """The best model for a budget. An error is None where there are too few runs to tell."""

    budget: float
    parameters: float
    tokens: float
    bpb: float
    parameters_error: float | None
    tokens_error: float | None
    ratio_error: float | None

    @property
    def ratio(self) -> float:
        """Tokens for each parameter."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient x budget^exponent; `error` is the exponent's standard error, None if it is not known."""

    coefficient: float
    exponent: float
    error: float | None

    def __call__(self, budget: float | np.ndarray) -> float | np.ndarray:
        return self.coefficient * budget**self.exponent


@dataclass(frozen=True)
class ScalingLaw:
    """What a grid says by one way to count parameters. The laws are None with fewer than two minima."""

    curves: list[IsoFlop]
    parabolas: list[Parabola]  # one for each curve
    minima: list[Minimum]
    left_out: dict[float, str]  # budget -> why it has no minimum
    parameters: PowerLaw | None
    tokens: PowerLaw | None


def fit_scaling_law(curves: Sequence[IsoFlop]) -> ScalingLaw:
    """Fit a parabola to each budget, and power laws to the minima that lie inside their grid.

    All budgets share one estimate of the noise, by the residuals of all parabolas: a single one has hardly any.
    """
    parabolas = [fit_parabola(curve) for curve in curves]
    freedom = sum(len(curve.bpb) - FEWEST for curve in curves)
    noise = np.sqrt(sum(each.squares for each in parabolas) / freedom) if freedom else None
    minima, left_out = [], {}
    for curve, parabola in zip(curves, parabolas, strict=True):
        found = find_minimum(curve, parabola, noise)
        if isinstance(found, str):
            left_out[curve.budget] = found
        else:
            minima.append(found)
    several = len(minima) > 1
    return ScalingLaw(
        curves=list(curves),
        parabolas=parabolas,
        minima=minima,
        left_out=left_out,
        parameters=fit_power_law(minima, "parameters") if several else None,
        tokens=fit_power_law(minima, "tokens") if several else None,
    )


def fit_parabola(curve: IsoFlop) -> Parabola:
    """Least squares of bits per byte over the logarithm of the parameters; needs three points."""
    logs = np.log(curve.parameters)
    center = float(logs.mean())
    columns = np.vander(logs - center, 3)  # (K, 3): x^2, x, 1
    coefficients = np.linalg.lstsq(columns, curve.bpb)[0]
    residuals = curve.bpb - columns @ coefficients
    squares = float(residuals @ residuals) if len(logs) > FEWEST else 0.0
    return Parabola(center, *map(float, coefficients), np.linalg.inv(columns.T @ columns), squares)


def find_minimum(curve: IsoFlop, parabola: Parabola, noise: float | None) -> Minimum | str:
    """The minimum of a parabola, or why there is none inside the grid. `noise` is the spread of the residuals."""
    if parabola.curvature <= 0:
        return "bits per byte have no minimum among these depths"
    x = -parabola.slope / (2 * parabola.curvature)
    logs = np.log(curve.parameters)
    if x + parabola.center <= logs[0]:
        return "the best model is the smallest, or smaller; a larger budget or smaller depths would show it"
    if x + parabola.center >= logs[-1]:
        return "the best model is the largest, or larger; larger depths would show it"
    error = None
    if noise is not None:  # that of x, a function of the coefficients, to first order
        gradient = np.array([-x, -0.5, 0.0]) / parabola.curvature
        error = noise * float(np.sqrt(gradient @ parabola.covariance @ gradient))
    # What a model of this size would read for the budget: between two models of the grid, on a line in logarithms.
    token_logs = np.log(curve.tokens)
    after = int(np.searchsorted(logs, x + parabola.center))
    steepness = (token_logs[after] - token_logs[after - 1]) / (logs[after] - logs[after - 1])
    parameters = float(np.exp(x + parabola.center))
    return Minimum(
        budget=curve.budget,
        parameters=parameters,
        tokens=float(np.exp(np.interp(x + parabola.center, logs, token_logs))),
        bpb=float(parabola(parameters)),
        parameters_error=error,
        tokens_error=None if error is None else error * abs(steepness),
        ratio_error=None if error is None else error * abs(steepness - 1),
    )


def fit_power_law(minima: Sequence[Minimum], name: str) -> PowerLaw:
    """Least squares in logarithms over two minima or more; `name` is "parameters" or "tokens".

    Minima count by their errors where these are known. If they scatter more than their errors say, the exponent's
    error grows by as much.
    """
    x = np.log([each.budget for each in minima])
    y = np.log([getattr(each, name) for each in minima])
    errors = [getattr(each, f"{name}_error") for each in minima]
    known = all(errors)  # neither None nor 0, as without noise
    weights = 1 / np.square(np.array(errors, dtype=float)) if known else np.ones(len(x))
    x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = weights @ (x - x_mean) ** 2
    exponent = float(weights @ ((x - x_mean) * (y - y_mean)) / spread)
    freedom = len(x) - 2
    scatter = weights @ (y - y_mean - exponent * (x - x_mean)) ** 2 / freedom if freedom else None
    if known:
        error = float(np.sqrt(max(1.0, scatter or 0.0) / spread))
    else:
        error = None if scatter is None else float(np.sqrt(scatter / spread))
    return PowerLaw(float(np.exp(y_mean - exponent * x_mean)), exponent, error)


@dataclass(frozen=True)
class Ratio:
    """Tokens for each parameter, over several budgets."""

    mean: float  # geometric
    spread: float  # standard deviation of its logarithm
    error: float | None  # mean standard error of one budget's


def compare_ratios(laws: Mapping[str, ScalingLaw]) -> dict[str, Ratio]:
    """The ratio by each way to count parameters, the cleanest first: that which varies least over the budgets.

    Only budgets that have a minimum by every way count. Empty with fewer than two of them.
    """
    of_law = {name: {each.budget: each for each in law.minima} for name, law in laws.items()}
    shared = [budget for budget in next(iter(of_law.values()), {}) if all(budget in each for each in of_law.values())]
    if len(shared) < 2:
        return {}
    ratios = {}
    for name, minima in of_law.items():
        logs = np.log([minima[budget].ratio for budget in shared])
        errors = [minima[budget].ratio_error for budget in shared]
        error = None if None in errors else float(np.mean(errors))
        ratios[name] = Ratio(float(np.exp(logs.mean())), float(logs.std(ddof=1)), error)
    return dict(sorted(ratios.items(), key=lambda item: item[1].spread))
