"""Pictures of scaling laws and of a miniseries."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from benchmarks.scaling.fit import ScalingLaw
from benchmarks.scaling.runs import Result
from benchmarks.scaling.tables import exponent_of
from evals.core.bundle import GPT2_CORE
from recipes.plots.figures import INK, MUTED, label_ends, styled
from recipes.plots.palette import HELD_OUT, REFERENCES, STAGE_COLORS, TOKENIZER

HEIGHT = 3.9  # inches
PARAMETERS, TOKENS = STAGE_COLORS["base"], STAGE_COLORS["mid"]
CONVENTIONS = (STAGE_COLORS["sft"], STAGE_COLORS["grpo"])
BUDGETS = colormaps["viridis"]
BARS = {"capsize": 3, "elinewidth": 1.2}


@styled
def plot_grid(laws: Mapping[str, ScalingLaw], name: str) -> Figure:
    """Bits per byte by size for each budget; beside them, where there are power laws, the best sizes and ratios.

    `name` is the one of `laws` whose way to count parameters the first two panels use.
    """
    law = laws[name]
    if law.parameters is None:
        figure = Figure(figsize=(6.4, HEIGHT), layout="constrained")
        draw_curves(figure.subplots(), law, name)
        return figure
    figure = Figure(figsize=(14, HEIGHT), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    curves, best, ratios = figure.subplots(1, 3, width_ratios=(1.2, 0.9, 0.9))
    draw_curves(curves, law, name)
    draw_laws(best, law)
    draw_ratios(ratios, laws)
    return figure


def draw_curves(axes: Axes, law: ScalingLaw, name: str) -> None:
    """Runs, parabolas, and a star with its error at each minimum inside the grid."""
    minima = {each.budget: each for each in law.minima}
    ends = []
    for place, (curve, parabola) in enumerate(zip(law.curves, law.parabolas, strict=True)):
        color = BUDGETS(0.75 * (1 - place / max(1, len(law.curves) - 1)))
        sizes = np.geomspace(curve.parameters[0], curve.parameters[-1], 200)
        axes.plot(sizes, parabola(sizes), color=color, linewidth=1.6)
        axes.plot(curve.parameters, curve.bpb, "o", color=color, markersize=5.5)
        ends.append((short(curve.budget), color, float(parabola(sizes[-1]))))
        if best := minima.get(curve.budget):
            low, high = error_bars([best.parameters], [best.parameters_error])
            axes.errorbar(best.parameters, best.bpb, xerr=[low, high], color=INK, zorder=2.5, **BARS)
            axes.plot(best.parameters, best.bpb, "*", color=color, markersize=13, markeredgecolor="white", zorder=3)
    axes.set(
        xscale="log",
        title="Bits per byte by size, for each budget",
        xlabel=name if "parameters" in name else f"parameters of {name}",
    )
    few_ticks(axes.xaxis, EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(*axes.get_ylim())  # for label_ends, which reads them
    axes.text(1.02, 1.03, "FLOPs", color=MUTED, transform=axes.transAxes, fontsize=11)
    label_ends(axes, ends)


def draw_laws(axes: Axes, law: ScalingLaw) -> None:
    """The best parameters and tokens by budget, with the power laws through them."""
    budgets = np.array([each.budget for each in law.minima])
    wide = np.geomspace(budgets[0] / 1.2, budgets[-1] * 1.2, 50)
    for field, power, color in (("parameters", law.parameters, PARAMETERS), ("tokens", law.tokens, TOKENS)):
        values = [getattr(each, field) for each in law.minima]
        errors = [getattr(each, f"{field}_error") for each in law.minima]
        axes.plot(wide, power(wide), color=color, linewidth=1.6)
        axes.errorbar(budgets, values, yerr=error_bars(values, errors), fmt="o", color=color, **BARS)
        label(axes, wide[-1], power(wide[-1]), f"{field}\n~ {exponent_of(power, '$C^{{{}}}$')}", color)
    axes.set(xscale="log", yscale="log", title="Best size and tokens", xlabel="FLOPs")
    budget_ticks(axes, budgets)
    axes.margins(y=0.15)
    few_ticks(axes.yaxis, EngFormatter(sep=""))


def draw_ratios(axes: Axes, laws: Mapping[str, ScalingLaw]) -> None:
    """Tokens for each parameter by budget, for each way to count parameters."""
    for (name, law), color in zip(laws.items(), CONVENTIONS, strict=True):
        budgets, ratios = [each.budget for each in law.minima], [each.ratio for each in law.minima]
        bars = error_bars(ratios, [each.ratio_error for each in law.minima])
        axes.errorbar(budgets, ratios, yerr=bars, fmt="o-", linewidth=1.6, color=color, **BARS)
        label(axes, budgets[-1], ratios[-1], name.replace(" ", "\n", 1), color)
    axes.set(xscale="log", title="Tokens for each parameter", xlabel="FLOPs")
    axes.set_ylim(bottom=0)
    budget_ticks(axes, sorted({each.budget for law in laws.values() for each in law.minima}))


@styled
def plot_series(results: Sequence[Result], dollars_an_hour: float | None) -> Figure:
    """Bits per byte of each model by FLOPs, and CORE beside it if it was measured."""
    measured = [result for result in results if result.core is not None]
    figure = Figure(figsize=(11 if measured else 5.6, HEIGHT), layout="constrained")
    panels = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    draw_series(panels[0], results, [result.bpb for result in results], TOKENIZER, dollars_an_hour)
    panels[0].set_title("Bits per byte of validation")
    if measured:
        draw_series(panels[1], measured, [result.core for result in measured], HELD_OUT[0], dollars_an_hour)
        tasks = measured[0].core_tasks
        panels[1].set_title(f"Mean of {tasks} of CORE's tasks" if tasks else "CORE")
        if not tasks:
            panels[1].axhline(GPT2_CORE, color=REFERENCES[0], linewidth=1.3, linestyle=":")
            label(panels[1], measured[-1].flops, GPT2_CORE, "GPT-2 (1.6B)", REFERENCES[0], (0, -9), "right")
    return figure


def draw_series(
    axes: Axes, results: Sequence[Result], values: Sequence[float], color: str, dollars_an_hour: float | None
) -> None:
    """One figure of each model by its FLOPs; the points are labelled by depth and cost."""
    flops = [result.flops for result in results]
    axes.plot(flops, values, "o-", color=color)
    for result, x, y in zip(results, flops, values, strict=True):
        cost = "" if dollars_an_hour is None else f"\n${result.hours * dollars_an_hour:,.2f}"
        # Above the line: to the right of a point where the line falls, to the left where it rises.
        aside = (5, "left") if values[-1] < values[0] else (-5, "right")
        label(axes, x, y, f"d{result.depth}{cost}", MUTED, (aside[0], 13 if cost else 8), aside[1])
    axes.set(xscale="log", xlabel="FLOPs")
    axes.margins(x=0.15, y=0.25)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    few_ticks(axes.xaxis)


def label(
    axes: Axes, x: float, y: float, text: str, color: str, offset: tuple[float, float] = (9, 0), ha: str = "left"
) -> None:
    """Text beside a point, `offset` points away."""
    axes.annotate(text, (x, y), offset, textcoords="offset points", color=color, va="center", ha=ha, fontsize=11)


def error_bars(values: Sequence[float], errors: Sequence[float | None]) -> list[list[float]]:
    """Lengths of the bars below and above values whose logarithms have these standard errors; 0 if unknown."""
    pairs = [(value, error or 0.0) for value, error in zip(values, errors, strict=True)]
    return [[v * (1 - np.exp(-e)) for v, e in pairs], [v * (np.exp(e) - 1) for v, e in pairs]]


def short(number: float, position: int | None = None) -> str:
    """1e9, 3.6e13; `position` is what matplotlib adds for a tick."""
    return re.sub(r"e\+0*", "e", f"{number:.3g}")


def budget_ticks(axes: Axes, budgets: Sequence[float]) -> None:
    """A tick at each budget."""
    axes.xaxis.set_major_locator(FixedLocator(budgets))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.margins(x=0.12)


def few_ticks(axis: Axis, formatter: EngFormatter | None = None) -> None:
    """Ticks at 1, 2 and 5 of each power of ten of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(formatter or FuncFormatter(short))
