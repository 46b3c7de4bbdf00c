"""One style for all figures: quiet axes, few colours, lines labelled at their end instead of in a legend.

Figures are made without pyplot, so there is no global state and no display is needed.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.plots.palette import LIGHT

INK, MUTED, LINE = LIGHT["ink"], LIGHT["muted"], LIGHT["line"]
WIDTH, HEIGHT = 5.6, 3.15  # inches: with this font still readable at the width of a phone
DPI = 1200 / WIDTH
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures are the same everywhere
    "font.size": 11.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 9),
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
    "figure.dpi": 100,
    "svg.fonttype": "path",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw the figure that a function returns in this style."""

    @wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG on white."""
    file = io.BytesIO()
    with rc_context(STYLE):  # ticks are made while drawing
        figure.savefig(file, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def as_svg(figure: Figure, salt: str) -> str:
    """The figure as SVG to put inside an HTML page, in the page's text and line colours (`--muted`, `--line`).

    `salt` keeps the ids of several figures in one page apart; the same figure gives the same text.
    """
    file = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": salt}):
        no_date = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_date)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(MUTED, "var(--muted)")
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2).replace(LINE, "var(--line)")


def label_ends(axes: Axes, ends: Sequence[tuple[str, str, float]]) -> None:
    """Label lines (text, colour, y of the last point) right of the axes, spread so that they do not overlap."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    gap = 14 / height * (high - low)
    places: list[float] = []
    ordered = sorted(ends, key=lambda end: end[2])
    for _, _, y in ordered:
        places.append(max(y, places[-1] + gap) if places else y)
    if places and places[-1] > high:  # too far up: push down from the top
        places[-1] = max(high, ordered[-1][2])
        for index in reversed(range(len(places) - 1)):
            places[index] = min(places[index], places[index + 1] - gap)
    for (text, color, _), y in zip(ordered, places, strict=True):
        axes.text(1.02, y, text, color=color, va="center", transform=axes.get_yaxis_transform(), fontsize=11)


@styled
def draw_bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    colors: Sequence[str],
    *,
    write: Callable[[float], str] = "{:.2f}".format,
    marks: Mapping[str, Sequence[float | None]] | None = None,
    overlaid: bool = False,
) -> Figure:
    """Horizontal bars, one group per label and one bar per series; None leaves a bar out. The first label is on top.

    Args:
        colors: one for each series.
        write: formats the value beside its bar.
        marks: series drawn as a dotted stroke across each group, by name; None leaves a stroke out.
        overlaid: each group has a bar of one series only, which takes the full height.
    """
    beside = 1 if overlaid else len(series)
    figure, axes = new_figure(height=0.9 + len(labels) * (0.08 + max(0.22 * beside, 0.26)))
    thickness = 0.8 / beside
    values = [value for each in [*series.values(), *(marks or {}).values()] for value in each if value is not None]
    low, high = min([0.0, *values]), max([1e-9, *values])
    for row, (name, numbers) in enumerate(series.items()):
        known = [(place, value) for place, value in enumerate(numbers) if value is not None]
        offsets = [place - 0.4 + (row % beside + 0.5) * thickness for place, _ in known]
        axes.barh(offsets, [value for _, value in known], 0.86 * thickness, color=colors[row], label=name)
        for y, (_, value) in zip(offsets, known, strict=True):  # right of the axis also where the bar goes left
            place, beside_it = (max(value, 0.0), y), {"textcoords": "offset points", "va": "center", "color": MUTED}
            axes.annotate(write(value), place, (4, -0.5), fontsize=10, **beside_it)
    for name, numbers in (marks or {}).items():
        known = [(place, value) for place, value in enumerate(numbers) if value is not None]
        places, lengths = [place for place, _ in known], [value for _, value in known]
        low_ends, high_ends = [place - 0.45 for place in places], [place + 0.45 for place in places]
        axes.vlines(lengths, low_ends, high_ends, color=MUTED, linewidth=1.3, linestyle=":", label=name, zorder=2.5)
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    room = 0.14 * (high - low)  # for the numbers
    axes.set_xlim(1.05 * low, high + room)
    axes.grid(False)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.axvline(0, color=LINE, linewidth=1)
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1 and not overlaid:
        entries = sorted(zip(names, handles, strict=True), key=lambda entry: [*series, *(marks or {})].index(entry[0]))
        names, handles = zip(*entries, strict=True)
        style = {"frameon": False, "fontsize": 10.5, "labelcolor": MUTED, "columnspacing": 1.4}
        figure.legend(handles, names, loc="outside lower center", ncols=4 if len(names) < 5 else 3, **style)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    return figure


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def finite(points: Iterable[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """The points (x, y) whose coordinates are finite."""
    return [(x, y) for x, y in points if is_number(x) and is_number(y)]
