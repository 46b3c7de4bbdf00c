"""Training curves. A plot that fails prints why and goes no further: it must not lose the model."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from recipes.plots.figures import HEIGHT, MUTED, WIDTH, as_png, finite, label_ends, new_figure, styled
from recipes.plots.palette import HELD_OUT, STAGE_COLORS

Records = list[dict[str, Any]]


def draw_loss(records: Records, path: Path, title: str, stage: str) -> None:
    """Write `plot_loss` to `path` as a PNG."""
    _draw(path, lambda: plot_loss(records, title, stage))


def draw_preferences(records: Records, path: Path, title: str) -> None:
    """Write `plot_preferences` to `path` as a PNG."""
    _draw(path, lambda: plot_preferences(records, title))


def draw_pass_at_k(records: Records, measures: dict[str, str], path: Path) -> None:
    """Write `plot_pass_at_k` to `path` as a PNG."""
    _draw(path, lambda: plot_pass_at_k(records, measures))


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
def plot_pass_at_k(records: Records, measures: dict[str, str]) -> Figure:
    """Mean reward of the rollouts and each of `measures` (record key -> label) by step."""
    figure, axes = new_figure()
    ends = plot_smoothed(axes, series(records, "train/reward"), STAGE_COLORS["grpo"], "reward", 0.85, "{:.0%}")
    for (key, name), color in zip(measures.items(), cycle(HELD_OUT), strict=False):
        if points := series(records, key):
            plot_points(axes, points, color)
            ends.append((f"{name} {points[-1][1]:.0%}", color, points[-1][1]))
    axes.set(xlabel="step", title="Reward, and problems solved of those held out")
    highest = max([1.0, *(value for _, value in series(records, "train/reward"))])  # a format reward adds to 1
    axes.set_ylim(0, 1.05 * highest)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    label_ends(axes, ends)
    return figure


def plot_points(axes: Axes, points: list[tuple[float, float]], color: str) -> None:
    """A line with a marker at each measurement."""
    axes.plot(*zip(*points, strict=True), "o-", color=color)


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
    return [(f"{name} {write.format(smoothed[-1][1])}", color, smoothed[-1][1])]


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
