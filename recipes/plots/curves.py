"""Training curves. A plot that fails prints why and goes no further: it must not lose the model."""

import math
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from recipes.plots.figures import HEIGHT, MUTED, WIDTH, as_png, finite, label_ends, styled
from recipes.plots.palette import HELD_OUT, SPREAD, STAGE_COLORS

Records = list[dict[str, Any]]
# Ends the key of a figure's standard error in metrics.jsonl. Earlier versions wrote `_se`, which took every problem as
# a draw of its own and was too small: it is not shown.
STANDARD_ERROR = "_clustered_se"
# What is told of GRPO's replies in training: key in metrics.jsonl, name, and how a value is written.
ROLLOUTS: tuple[tuple[str, str, str], ...] = (
    ("train/reward", "reward", "{:.2f}"),
    ("train/groups_with_spread", "groups with spread", "{:.0%}"),
    ("train/completions/mean_length", "tokens a reply", "{:.1f}"),
    ("train/tools/call_frequency", "calls a reply", "{:.2f}"),
)


def draw_loss(records: Records, path: Path, title: str, stage: str) -> None:
    """Write `plot_loss` to `path` as a PNG."""
    _draw(path, lambda: plot_loss(records, title, stage))


def draw_preferences(records: Records, path: Path, title: str) -> None:
    """Write `plot_preferences` to `path` as a PNG."""
    _draw(path, lambda: plot_preferences(records, title))


def draw_reinforcement(records: Records, measures: dict[str, str], path: Path) -> None:
    """Write `plot_reinforcement` to `path` as a PNG."""
    _draw(path, lambda: plot_reinforcement(records, measures))


def _draw(path: Path, plot: Callable[[], Figure]) -> None:
    try:
        path.write_bytes(as_png(plot()))
    except Exception as error:
        print(f"could not draw {path}: {error}")
    else:
        print(f"chart        {path}")


def series(records: Records, key: str) -> list[tuple[float, float]]:
    """(step, value) of each record with a finite value of `key`."""
    return finite((record.get("step"), record.get(key)) for record in records)


@styled
def plot_loss(records: Records, title: str, stage: str) -> Figure:
    """Training and validation loss by step, and bits per byte below them if they were measured."""
    validation = HELD_OUT[0]
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    evaluated = series(records, "val/bpb")
    if evaluated:
        loss, bpb = figure.subplots(2, sharex=True, height_ratios=(2, 1.1))
        plot_points(bpb, evaluated, validation)
        bpb.set_xlabel("step")
        bpb.set_title("validation, bits per byte", fontsize=11.5, fontweight="normal", color=MUTED, pad=5)
        bpb.set_ylim(bottom=0, top=1.3 * max(value for _, value in evaluated))
        bpb.yaxis.set_major_locator(MaxNLocator(3))
        label_ends(bpb, [(f"{evaluated[-1][1]:.3f}", validation, evaluated[-1][1])])
    else:
        loss = figure.subplots()
        loss.set_xlabel("step")
    loss.set_title(f"{title}, nats a token")
    loss.xaxis.set_major_formatter("{x:,.0f}")
    trained, held_out = series(records, "train/loss"), series(records, "val/loss")
    ends = plot_smoothed(loss, trained, STAGE_COLORS[stage], "training")
    if held_out:
        plot_points(loss, held_out, validation)
        ends.append((f"validation {held_out[-1][1]:.3f}", validation, held_out[-1][1]))
    values = [value for _, value in trained[len(trained) // 50 :] + held_out]
    if values:  # the first steps of a long run may be far above all others
        margin = 0.06 * (max(values) - min(values)) or 0.1
        loss.set_ylim(min(values) - margin, max(values) + margin)
    label_ends(loss, ends)
    return figure


@styled
def plot_preferences(records: Records, title: str) -> Figure:
    """Loss of DPO by step, and below it the share of pairs of which the chosen answer has the higher reward."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    loss, accuracy = figure.subplots(2, sharex=True)
    for axes, key, write in ((loss, "loss", "{:.3f}"), (accuracy, "rewards/accuracies", "{:.0%}")):
        ends = plot_smoothed(axes, series(records, f"train/{key}"), STAGE_COLORS["dpo"], "training", write=write)
        if held_out := series(records, f"val/{key}"):
            plot_points(axes, held_out, HELD_OUT[0])
            ends.append((f"held out {write.format(held_out[-1][1])}", HELD_OUT[0], held_out[-1][1]))
        label_ends(axes, ends)
    loss.set_title(title)
    accuracy.set_title(
        "pairs in which the chosen answer is preferred", fontsize=11.5, fontweight="normal", color=MUTED
    )
    accuracy.set_xlabel("step")
    accuracy.xaxis.set_major_formatter("{x:,.0f}")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


@styled
def plot_reinforcement(records: Records, measures: dict[str, str]) -> Figure:
    """Panels of GRPO by step: each of `measures` (record key -> label), reward and spread, length, and calls.

    What was not measured has no panel.
    """
    solved = {key: name for key, name in measures.items() if series(records, key)}
    panels = [("held-out problems solved, ± standard error", solved, "{:.0%}")] if solved else []
    (reward, *_), (spread, *_), *others = ROLLOUTS
    shares = ("replies' reward, and groups with spread", {reward: "reward", spread: "spread"}, "{:.0%}")
    panels += [shares, *((f"{name}, on average", {key: ""}, write) for key, name, write in others)]
    panels = [each for each in panels if any(series(records, key) for key in each[1])]
    heights = [1.7 if names is solved else 1.0 for _, names, _ in panels]
    height = HEIGHT if len(panels) == 1 else 0.5 + 1.3 * sum(heights)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    column = figure.subplots(len(panels), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (title, names, write) in zip(column, panels, strict=True):
        colors, ends = cycle(HELD_OUT if names is solved else (STAGE_COLORS["grpo"], SPREAD)), []
        for (key, name), color in zip(names.items(), colors, strict=False):
            points = series(records, key)
            if points and names is solved:
                plot_points(axes, points, color, standard_errors(records, key, points))
                ends.append((f"{name} {write.format(points[-1][1])}", color, points[-1][1]))
            else:
                ends += plot_smoothed(axes, points, color, name, 0.85, write)
        axes.set_title(title, fontsize=11.5, fontweight="normal", color=MUTED, pad=5)
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.yaxis.set_major_locator(MaxNLocator(4 if names is solved else 3))
        if write.endswith("%}"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        label_ends(axes, ends)
    column[-1].set_xlabel("step")
    column[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def standard_errors(records: Records, key: str, points: list[tuple[float, float]]) -> list[float]:
    """The standard error of each of `points` of `key`; NaN where a record has none."""
    known = dict(series(records, key + STANDARD_ERROR))
    return [known.get(step, math.nan) for step, _ in points]


def over_run(records: Records) -> list[tuple[str, str, str]]:
    """How each of `ROLLOUTS` changed: its name, and its mean over the first and the last tenth of the steps."""
    rows = []
    for key, name, write in ROLLOUTS:
        if values := [value for _, value in series(records, key)]:
            tenth = max(1, len(values) // 10)
            rows.append((name, write.format(fmean(values[:tenth])), write.format(fmean(values[-tenth:]))))
    return rows


def plot_points(axes: Axes, points: list[tuple[float, float]], color: str, errors: list[float] | None = None) -> None:
    """A line with a marker at each measurement, and a bar of the standard error where `errors` is not NaN."""
    axes.errorbar(*zip(*points, strict=True), yerr=errors, fmt="o-", color=color, capsize=2.5, elinewidth=1.2)


def plot_smoothed(
    axes: Axes,
    points: list[tuple[float, float]],
    color: str,
    name: str,
    weight: float | None = None,
    write: str = "{:.3f}",
) -> list[tuple[str, str, float]]:
    """All values, faint, under their moving average. Returns its label for `label_ends`; empty without points."""
    if not points:
        return []
    axes.plot(*zip(*points, strict=True), color=color, alpha=0.3, linewidth=1)
    smoothed = smooth(points, weight)
    axes.plot(*zip(*smoothed, strict=True), color=color)
    return [(f"{name} {write.format(smoothed[-1][1])}".strip(), color, smoothed[-1][1])]


def smooth(points: list[tuple[float, float]], weight: float | None = None) -> list[tuple[float, float]]:
    """Exponential moving average of the values, corrected for its start (as Adam's moments are).

    By default the window is a fortieth of the run, so that the curve of a short run does not lag.
    """
    if weight is None:
        weight = 1 - 1 / max(1.0, len(points) / 40)
    average, smoothed = 0.0, []
    for count, (step, value) in enumerate(points, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append((step, average / (1 - weight**count)))
    return smoothed
