"""What `python -m benchmarks.scaling` prints."""

from collections.abc import Mapping

from benchmarks.scaling.fit import Minimum, PowerLaw, Ratio, ScalingLaw
from benchmarks.scaling.runs import Result
from recipes.utils.plain_text import clock

GRID_HEAD = (
    f"{'FLOPs':>8} {'depth':>6} {'parameters':>15} {'matrices + head':>16} {'tokens':>16} "
    f"{'bits/byte':>10} {'time':>8}"
)
SERIES_HEAD = (
    f"{'depth':>5} {'parameters':>15} {'tokens':>16} {'tokens/parameter':>17} {'FLOPs':>9} {'bits/byte':>10} "
    f"{'CORE':>16} {'hours':>8} {'cost':>10}"
)


def grid_row(result: Result) -> str:
    """A run of a grid."""
    return (
        f"{result.budget:>8.3g} {f'd{result.depth}':>6} {result.parameters:>15,} {result.matrices_and_head:>16,} "
        f"{result.tokens:>16,} {result.bpb:>10.4f} {clock(result.seconds):>8}"
    )


def series_row(result: Result, dollars_an_hour: float | None) -> str:
    """A model of a miniseries."""
    cost = "" if dollars_an_hour is None else f"${result.hours * dollars_an_hour:,.2f}"
    return (
        f"{f'd{result.depth}':>5} {result.parameters:>15,} {result.tokens:>16,} "
        f"{result.tokens / result.parameters:>17.2f} {result.flops:>9.2e} {result.bpb:>10.4f} {core_of(result):>16} "
        f"{result.hours:>8.3g} {cost:>10}"
    )


def core_of(result: Result) -> str:
    """CORE, or the mean of those of its tasks that the bundle has; empty where it was not measured."""
    if result.core is None:
        return ""
    return f"{result.core:.4f}" + (f" ({result.core_tasks} tasks)" if result.core_tasks else "")


def describe_law(name: str, law: ScalingLaw) -> list[str]:
    """The best model for each budget, and the power laws through them, by one way to count parameters."""
    lines = [
        f"by {name}",
        f"{'FLOPs':>8} {'parameters':>20} {'tokens':>22} {'tokens/parameter':>18} {'bits/byte':>10}",
    ]
    minima = {each.budget: each for each in law.minima}
    for curve in law.curves:
        if curve.budget in minima:
            lines.append(_minimum_row(minima[curve.budget]))
        else:
            lines.append(f"{curve.budget:>8.3g} left out: {law.left_out[curve.budget]}")
    if law.parameters is None:
        lines.append(f"no power law: it needs the minima of two budgets, and here {_count(len(law.minima))}")
    else:
        lines.append(f"parameters ~ {exponent_of(law.parameters)}, tokens ~ {exponent_of(law.tokens)}")
    return lines


def _minimum_row(best: Minimum) -> str:
    parameters = f"{best.parameters:,.0f}{relative(best.parameters_error)}"
    tokens = f"{best.tokens:,.0f}{relative(best.tokens_error)}"
    ratio = f"{best.ratio:.2f}{relative(best.ratio_error)}"
    return f"{best.budget:>8.3g} {parameters:>20} {tokens:>22} {ratio:>18} {best.bpb:>10.4f}"


def _count(number: int) -> str:
    return "is one" if number == 1 else "are none"


def relative(error: float | None) -> str:
    """A standard error of a logarithm as a share of the value; empty if it is not known."""
    return "" if error is None else f" ± {error:.0%}"


def exponent_of(law: PowerLaw, power: str = "C^{}") -> str:
    """C^0.50 ± 0.05."""
    return power.format(f"{law.exponent:.2f}") + ("" if law.error is None else f" ± {law.error:.2f}")


def describe_ratios(ratios: Mapping[str, Ratio]) -> list[str]:
    """How much tokens for each parameter vary over the budgets, for each way to count; the cleanest is the first."""
    cleanest, best = next(iter(ratios.items()))
    lines = [
        f"tokens/parameter by {name}: {each.mean:.2f} on average, varying by {each.spread:.0%} over the budgets"
        for name, each in ratios.items()
    ]
    verdict = f"cleaner is {cleanest}, whose ratio varies least"
    lead = max(each.spread for each in ratios.values()) - best.spread
    if best.error is not None and lead < best.error:
        verdict += f"; but with ratios known to {best.error:.0%} only, this grid cannot tell them apart"
    return [*lines, verdict]
