"""Charts of the report that compare tasks or stages."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from evals.core.bundle import GPT2_CORE
from evals.report.files import CoreScores
from evals.report.formats import D20_CHAT, D20_CORE, percent, task_name
from evals.report.gather import Run, Stage
from recipes.plots.curves import plot_points, smooth
from recipes.plots.figures import draw_bars, finite, label_ends, new_figure, styled
from recipes.plots.palette import REFERENCES, STAGE_COLORS

REFERENCE = REFERENCES[0]


def plot_core_tasks(core: CoreScores, stage: str) -> Figure:
    """Centered accuracy of each task, sorted, best on top."""
    labels = sorted(core.tasks, key=lambda label: -core.tasks[label].centered)
    title = "CORE tasks: accuracy above guessing" if core.core is not None else "Accuracy above guessing"
    return draw_bars(
        labels, {"centered": [core.tasks[label].centered for label in labels]}, title, [STAGE_COLORS[stage]]
    )


def plot_core(core: float, title: str, stage: str) -> Figure:
    """CORE beside its reference points."""
    name = "this model"
    values = {name: core, "d20, 11.2B tokens": D20_CORE, "GPT-2, 1.6B": GPT2_CORE}
    bars = {
        name: [value if label == name else None for label, value in values.items()],
        "reference": [None if label == name else value for label, value in values.items()],
    }
    return draw_bars(list(values), bars, title, [STAGE_COLORS[stage], REFERENCE], write="{:.4f}".format, overlaid=True)


@styled
def plot_core_over_steps(points: list[tuple[float, float]], whole: bool, stage: str) -> Figure:
    """CORE over the training steps, or the mean over those tasks that were there."""
    figure, axes = new_figure()
    plot_points(axes, points, STAGE_COLORS[stage])
    ends = [(f"{points[-1][1]:.4f}", STAGE_COLORS[stage], points[-1][1])]
    if whole:
        axes.axhline(GPT2_CORE, color=REFERENCE, linestyle=":")
        ends.append((f"GPT-2 {GPT2_CORE:.4f}", REFERENCE, GPT2_CORE))
    axes.set(xlabel="step", title="CORE during training" if whole else "Accuracy above guessing, some CORE tasks")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    label_ends(axes, ends)
    return figure


def plot_chat(stages: list[Stage], tasks: list[str]) -> Figure:
    """Accuracy by task and stage, with nanochat's d20 as reference and a stroke at the level of guessing."""
    series, colors = {}, []
    for stage in stages:
        scores = [stage.chat.tasks.get(task) for task in tasks]
        series[stage.title] = [None if score is None else score.accuracy for score in scores]
        colors.append(STAGE_COLORS[stage.name])
    if any(task in D20_CHAT for task in tasks):
        series["d20 after SFT"] = [D20_CHAT.get(task) for task in tasks]
        colors.append(REFERENCE)
    known = {task: score for stage in stages for task, score in stage.chat.tasks.items()}
    guessing = [known[task].baseline or None for task in tasks]
    marks = {"guessing": guessing} if any(guessing) else {}
    names = [task_name(task) for task in tasks]
    return draw_bars(names, series, "Accuracy by stage", colors, write=percent, marks=marks)


@styled
def plot_over_time(run: Run, key: str, title: str, label: str, share: bool = False) -> Figure | None:
    """`key` of the stages that train on given text, one after the other, over training time; None if unknown.

    Reinforcement is left out: most of its time goes into writing.
    """
    figure, axes = new_figure()
    hours = sum(stage.seconds or 0 for stage in run.stages) > 3 * 3600
    unit, begun, names = 3600 if hours else 60, 0.0, []
    for stage in run.stages:
        times = [(record.get("total_training_time"), record.get(key)) for record in stage.records]
        points = [(begun + seconds / unit, value) for seconds, value in finite(times)]
        begun += (stage.seconds or 0) / unit
        if stage.name == "grpo" or not points:
            continue
        color = STAGE_COLORS[stage.name]
        axes.plot(*zip(*points, strict=True), color=color, alpha=0.3, linewidth=1)
        smoothed = smooth(points)
        axes.plot(*zip(*smoothed, strict=True), color=color)
        last = smoothed[-1][1]
        names.append((f"{stage.title} {last:.1%}" if share else f"{stage.title} {last:,.0f}", color, last))
    if not names:
        return None
    axes.set(title=title, xlabel=f"{'hours' if hours else 'minutes'} of training", ylabel=label)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0) if share else "{x:,.0f}")
    label_ends(axes, names)
    return figure
