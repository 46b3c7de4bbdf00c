"""The run as a picture."""

from pathlib import Path
from typing import Any


def draw_loss(records: list[dict[str, Any]], path: Path, title: str) -> None:
    """Training loss over the steps, and validation loss or bits per byte where they were measured, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot

    trained = [(r["step"], r["train/loss"]) for r in records if r.get("train/loss") is not None]
    held_out = [(r["step"], r["val/loss"]) for r in records if r.get("val/loss") is not None]
    evaluated = [(r["step"], r["val/bpb"]) for r in records if r.get("val/bpb") is not None]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(*zip(*trained, strict=True), color="tab:blue", alpha=0.35, linewidth=1)
    axes.plot(*zip(*smooth(trained), strict=True), color="tab:blue", linewidth=2, label="training loss, smoothed")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", color="tab:orange", markersize=4, label="validation loss")
    axes.set(xlabel="step", ylabel="loss (nats a token)", title=title)
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    if evaluated:
        right = axes.twinx()
        right.plot(
            *zip(*evaluated, strict=True), "o-", color="tab:orange", markersize=4, label="validation bits per byte"
        )
        right.set_ylabel("validation bits per byte")
        right.set_ylim(bottom=0, top=1.3 * max(value for _, value in evaluated))
        right.annotate(f"{evaluated[-1][1]:.3f}", evaluated[-1], textcoords="offset points", xytext=(0, 8), ha="right")
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    axes.legend(handles, labels, loc="upper right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def smooth(points: list[tuple[int, float]], weight: float | None = None) -> list[tuple[int, float]]:
    """Exponential moving average of the values, corrected for its start (as Adam's moments are).

    By default it reaches back over a fortieth of the run, so that it does not trail behind a short one.
    """
    if weight is None:
        weight = 1 - 1 / max(1.0, len(points) / 40)
    average, smoothed = 0.0, []
    for count, (step, value) in enumerate(points, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append((step, average / (1 - weight**count)))
    return smoothed


def draw_pass_at_k(records: list[dict[str, Any]], measures: dict[str, str], path: Path) -> None:
    """The mean reward of the rollouts and each of `measures` (key of a record: its name) over the steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    rewards = [(r["step"], r["train/reward"]) for r in records if r.get("train/reward") is not None]
    if rewards:
        axes.plot(*zip(*rewards, strict=True), color="tab:gray", alpha=0.35, linewidth=1)
        axes.plot(
            *zip(*smooth(rewards, weight=0.85), strict=True),
            color="tab:gray",
            label="mean reward of the rollouts, smoothed",
        )
    for key, name in measures.items():
        points = [(r["step"], r[key]) for r in records if r.get(key) is not None]
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, label=f"{name}, held-out problems")
        axes.annotate(f"{points[-1][1]:.0%}", points[-1], textcoords="offset points", xytext=(0, 6), ha="right")
    axes.set(xlabel="step", ylabel="share solved", title="Reinforcement on problems", ylim=(0, 1.05))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
