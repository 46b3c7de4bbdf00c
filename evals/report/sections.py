"""The sections of the report, each a list of blocks: empty if the run holds nothing for it."""

from collections.abc import Callable
from typing import Any

from evals.chat.tasks import FLEXIBLE, PRIMER_TASKS
from evals.core.bundle import GPT2_CORE
from evals.report.charts import plot_chat, plot_core, plot_core_over_steps, plot_core_tasks, plot_over_time
from evals.report.files import CORE_TASKS, Samples
from evals.report.formats import (
    D20_CHAT,
    D20_CORE,
    count,
    dollars,
    duration,
    flops,
    listed,
    percent,
    short,
    task_name,
)
from evals.report.gather import Run, Stage, commands, stages_up_to
from evals.report.page import Block, Chat, Code, Details, Heading, Picture, Pictures, Table, Text, Tiles
from evals.tokenizer.report import tokenizer_blocks
from recipes.plots.curves import plot_loss, plot_preferences, series

Price = Callable[[Stage], float | None]  # dollars of a stage's training, where a price is given


def total(values: list[float | None]) -> float | None:
    """Sum of the known values; None if all are unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def headline(run: Run, price: Price) -> list[Block]:
    """A sentence on the run, and its main numbers as tiles."""
    tiles: list[tuple[str, str]] = []
    largest = run.newest("parameters")
    if largest is not None:
        tiles.append((short(largest.parameters.total), "parameters"))
    if run.stages and run.stages[0].tokens:
        tiles.append((short(run.stages[0].tokens), f"tokens of {run.stages[0].title} training"))
    evaluated = [stage for stage in run.stages if stage.bpb is not None and stage.name == "base"]
    tiles += [(f"{stage.bpb:.4f}", "bits per byte, base") for stage in evaluated]
    if (stage := run.newest("core")) is not None and stage.core.core is not None:
        tiles.append((f"{stage.core.core:.4f}", f"{stage.core.name}, {stage.title}; GPT-2: {GPT2_CORE:.4f}"))
    if (stage := run.newest("chat")) is not None:
        tiles.append(chat_tile(stage))
    seconds = total([stage.seconds for stage in run.stages])
    tiles += [(duration(seconds), "of training")] if seconds else []
    cost = total([price(stage) for stage in run.stages])
    tiles += [(dollars(cost), "for that time")] if cost is not None else []
    return [Text(summary(run)), *([Tiles(tiles)] if tiles else [])]


def chat_tile(stage: Stage) -> tuple[str, str]:
    """ChatCORE, or the mean accuracy if one of its tasks is missing."""
    if stage.chat.chat_core is not None:
        return f"{stage.chat.chat_core:.4f}", f"ChatCORE, {stage.title}"
    scores = [score for name, score in stage.chat.tasks.items() if not name.endswith(FLEXIBLE)]
    exams = f"{len(scores)} exam{'s' if len(scores) > 1 else ''}"
    return percent(sum(score.accuracy for score in scores) / len(scores)), f"right in {exams}, {stage.title}"


def summary(run: Run) -> str:
    """One sentence: the model, its data, its stages, the machine."""
    if not run.stages:
        return "So far a tokenizer."
    described = run.newest("parameters")
    what = f"A language model of {described.parameters.total:,} parameters" if described else "A language model"
    first = run.stages[0]
    data = f" on {first.data}" if first.data else ""
    path = stages_up_to(run.stages[-1], run)
    through = f" through {listed([stage.title for stage in path])}" if len(path) > 1 else ""
    machine = f", on {machine_name(run.launches[-1])}" if run.launches else ""
    return f"{what}, trained from scratch{data}{through}{machine}." if first.name == "base" else f"{what}{through}."


def machine_name(launch: dict[str, Any]) -> str:
    hardware = launch.get("hardware") or {}
    if gpus := hardware.get("gpus"):
        return f"{launch.get('processes', len(gpus))} x {gpus[0]}"
    return f"{hardware.get('cores', '?')} cores of {hardware.get('cpu', 'a CPU')}"


def samples_section(run: Run) -> list[Block]:
    """A conversation with the last stage, and completions by the base model."""
    blocks: list[Block] = []
    talking = [stage for stage in run.stages if stage.samples and stage.samples.conversation]
    if talking:
        blocks += [
            Heading("A conversation"),
            Text(f"With the model after {talking[-1].title}, greedy, unedited.", True),
        ]
        blocks.append(Chat(talking[-1].samples.conversation))
    completing = [stage for stage in run.stages if stage.samples and stage.samples.completions]
    if completing:
        first = completing[0]
        right, of = first.samples.right
        blocks.append(Heading("Completions"))
        blocks.append(Text(f"Greedy completions by {first.title}: {right} of {of} right.", quiet=True))
        blocks.append(completions_table(first.samples))
    for stage in completing[1:]:
        right, of = stage.samples.right
        blocks.append(Details(f"after {stage.title}: {right} of {of} right", [completions_table(stage.samples)]))
    return blocks


def completions_table(samples: Samples) -> Table:
    marks = {True: "right", False: "wrong", None: ""}
    rows = [[prompt, completion.strip(), marks[right]] for prompt, completion, right in samples.completions]
    return Table(["prompt", "the model continues", ""], rows, left=3)


def chat_section(run: Run) -> list[Block]:
    """Accuracies by task and stage, in a picture and a table."""
    stages = [stage for stage in run.stages if stage.chat is not None and stage.chat.tasks]
    if not stages:
        return []
    known = {task: score for stage in stages for task, score in stage.chat.tasks.items()}
    tasks = list(known)
    reference = any(task in D20_CHAT for task in tasks)
    columns = ["task", *(stage.title for stage in stages), *(["d20"] if reference else []), "guessing", "problems"]
    rows = []
    for task in tasks:
        scores = [stage.chat.tasks.get(task) for stage in stages]
        cells = ["" if score is None else percent(score.accuracy) for score in scores]
        cells += [percent(D20_CHAT.get(task))] if reference else []
        rows.append([task_name(task), *cells, percent(known[task].baseline, 0), count(known[task].count)])
    if any(stage.chat.chat_core is not None for stage in stages):
        cores = ["" if stage.chat.chat_core is None else f"{stage.chat.chat_core:.4f}" for stage in stages]
        rows.append(["ChatCORE", *cores, *([""] if reference else []), "", ""])
    errors = [score.standard_error for stage in stages for score in stage.chat.tasks.values()]
    remark = "" if None in errors else f"Standard error of a figure: at most {100 * max(errors):.1f} points."
    if remark and any(task in PRIMER_TASKS for task in tasks):
        remark += " It knows that problems told in the same words are often solved or failed together."
    for stage in stages:
        fewer = {score.count for task, score in stage.chat.tasks.items() if score.count != known[task].count}
        if fewer:
            remark += f" Only {listed([count(number) for number in sorted(fewer)])} problems a task for {stage.title}."
    remark += (
        " d20: nanochat's own figures for 561M parameters and 11.2B tokens of FineWeb-Edu, after SFT."
        if reference
        else ""
    )
    notes = [Text(note, quiet=True) for note in stages[-1].chat.notes]
    best = listed(
        [f"{task_name(task)} {percent(stages[-1].chat.tasks[task].accuracy)}" for task in stages[-1].chat.tasks]
    )
    picture = Picture(
        "chat", plot_chat(stages, tasks), f"Bar chart of accuracy by task and stage. Last stage: {best}."
    )
    sampled = [
        [f"{task_name(task)}, {stage.title}, {name}", percent(value)]
        for stage in stages
        for task, score in stage.chat.tasks.items()
        for name, value in score.pass_at.items()
    ]
    passes = [Table(["sampled", "solved"], sampled)] if sampled else []
    return [Heading("Exams"), Pictures([picture]), Table(columns, rows), Text(remark, quiet=True), *notes, *passes]


def core_section(run: Run) -> list[Block]:
    """CORE of the base model, or the mean over those of its tasks that were measured."""
    stages = [stage for stage in run.stages if stage.core is not None and stage.core.tasks]
    if not stages:
        return []
    stage = stages[0] if stages[0].name == "base" else stages[-1]
    core, tasks = stage.core, stage.core.tasks
    alt = "Bar chart of the tasks' accuracy above guessing, as in the table."
    pictures = [Picture("core_tasks", plot_core_tasks(core, stage.name), alt)]
    if core.core is not None:
        said = (
            f"{core.name}, of {stage.title}: {core.core:.4f}, the mean accuracy above guessing of {CORE_TASKS} tasks."
        )
        alt = f"Bar chart of {core.name}: this model {core.core:.4f}, d20 {D20_CORE}, GPT-2 {GPT2_CORE:.4f}."
        pictures.insert(0, Picture("core", plot_core(core.core, core.name, stage.name), alt))
    else:
        said = (
            f"Over {len(tasks)} of {CORE_TASKS} tasks: {core.partial:.4f}, the mean accuracy above guessing of "
            f"{stage.title}. This is not CORE, and not to be compared with it."
        )
    blocks: list[Block] = [Heading(core.name), Text(said)]
    if core.max_examples is not None:
        blocks.append(Text(f"At most {core.max_examples:,} examples of each task.", quiet=True))
    rows = [
        [label, percent(task.accuracy), percent(task.baseline, 0), f"{task.centered:.4f}", count(task.count)]
        for label, task in tasks.items()
    ]
    table = Table(["task", "accuracy", "guessing", "centered", "examples"], rows)
    others = [[each.title, core_text(each)] for each in stages] if len(stages) > 1 else []
    blocks += [*(Pictures([picture]) for picture in pictures), Details("every task", [table])]
    return blocks + ([Table(["stage", "CORE or part of it"], others)] if others else [])


def core_text(stage: Stage) -> str:
    """CORE, or the mean over a part of its tasks, labelled as such."""
    if stage.core.core is not None:
        return f"{stage.core.core:.4f}" + (f" ({stage.core.name})" if stage.core.max_examples is not None else "")
    return f"{stage.core.partial:.4f} over {len(stage.core.tasks)} of {CORE_TASKS} tasks"


def judge_section(run: Run) -> list[Block]:
    """Mean judge score by stage, and the best, the median and the worst answer."""
    stages = [stage for stage in run.stages if stage.judge is not None]
    if not stages:
        return []
    rows = [
        [
            each.title,
            each.judge.judge,
            f"{each.judge.mean_score:.1f}",
            count(each.judge.count),
            count(each.judge.missing),
        ]
        for each in stages
    ]
    blocks: list[Block] = [
        Heading("Judged answers"),
        Text("Free answers to instructions, scored from 0 to 100 by another model."),
        Table(["stage", "judge", "mean score", "answers", "not judged"], rows, left=2),
    ]
    judged = sorted(stages[-1].judge.rows, key=lambda row: -row["score"])
    shown = {0: "best", len(judged) // 2: "middle", len(judged) - 1: "worst"} if judged else {}
    for place, name in shown.items():
        row = {key: str(value) for key, value in judged[place].items() if value is not None}
        asked = "\n".join(filter(None, (row.get("instruction"), row.get("input"))))
        turns = [("user", asked), ("model", row.get("answer", ""))]
        reason = [Text(f"The judge: {row['reason']}", quiet=True)] if row.get("reason") else []
        blocks.append(Details(f"{name} of {stages[-1].title}: {row['score']}", [Chat(turns), *reason]))
    return blocks


def training_section(run: Run) -> list[Block]:
    """Loss and bits per byte of the stages that learn from text, and their speed."""
    pictures = []
    for stage in run.stages:
        if stage.name in ("dpo", "grpo") or not series(stage.records, "train/loss"):
            continue
        bpb = f", {stage.bpb:.4f} bits per byte at the end" if stage.bpb is not None else ""
        alt = f"Training loss of {stage.title} over {stage.steps:,} steps{bpb}."
        figure = plot_loss(stage.records, f"Loss, {stage.title}", stage.name)
        pictures.append(Picture(f"loss_{stage.name}", figure, alt))
        pictures += core_pictures(stage)
    speeds = (
        ("speed", "train/tok_per_sec", "Speed", "tokens/s", False),
        ("mfu", "train/mfu", "MFU, model FLOPs utilization", "share of the peak", True),
    )
    for name, key, title, label, share in speeds:
        if (figure := plot_over_time(run, key, title, label, share)) is not None:
            pictures.append(Picture(name, figure, f"{title} over training time, by stage."))
    return [Heading("Training"), Pictures(pictures)] if pictures else []


def core_pictures(stage: Stage) -> list[Picture]:
    """CORE as it was measured while the stage trained."""
    pictures = []
    for key, name in (("core_metric", "CORE"), ("core_partial", "The mean over a part of CORE's tasks")):
        if points := series(stage.records, key):
            figure = plot_core_over_steps(points, key == "core_metric", stage.name)
            alt = f"{name} of {stage.title} during training, {points[-1][1]:.4f} at the end."
            pictures.append(Picture(f"{key}_{stage.name}", figure, alt))
    return pictures


def preferences_section(run: Run) -> list[Block]:
    """Loss of DPO, and how often the chosen answer is preferred."""
    stage = next((stage for stage in run.stages if stage.name == "dpo"), None)
    if stage is None or not series(stage.records, "train/loss"):
        return []
    rows = []
    for key, name, write in (
        ("rewards/accuracies", "pairs in which the chosen answer is preferred", percent),
        ("rewards/margins", "reward of the chosen answer above that of the rejected one", "{:.2f}".format),
    ):
        if points := series(stage.records, f"val/{key}"):
            rows.append([name, write(points[0][1]), write(points[-1][1])])
    alt = "Loss of DPO over the steps, and the share of pairs in which the chosen answer is preferred."
    blocks: list[Block] = [Heading("Preferences")]
    blocks.append(Pictures([Picture("preferences", plot_preferences(stage.records, "Loss, DPO"), alt)]))
    return blocks + ([Table(["held-out preferences", "first measured", "at the end"], rows)] if rows else [])


def tokens_section(run: Run) -> list[Block]:
    """Data, steps, tokens and FLOPs by stage."""
    columns, rows = ["stage", "data", "steps", "tokens", "FLOPs"], []
    for stage in run.stages:
        if stage.steps is not None:
            rows.append([stage.title, stage.data or "", count(stage.steps), count(stage.tokens), flops(stage.flops)])
    return [Heading("Data"), Table(columns, rows, left=2)] if rows else []


def model_section(run: Run) -> list[Block]:
    stage = run.newest("parameters")
    if stage is None:
        return []
    model, rows = stage.parameters, []
    for name, shape, copies in model.rows:
        size = 1
        for length in shape:
            size *= length
        of = "\u00a0x\u00a0".join(f"{length:,}" for length in shape)  # unbroken, in a narrow column
        rows.append([name, of, count(copies), count(size * copies), percent(size * copies / model.total)])
    rows.append(["total", "", "", count(model.total), percent(1.0)])
    described = model.describe(f"{model.vocab_size:,} tokens of vocabulary", f"{model.context:,} of context")
    said = f"{described}. {short(model.flops_per_token)} FLOPs a token of training, forward and backward."
    return [Heading("Model"), Text(said), Table(["weights", "shape", "copies", "parameters", "share"], rows, left=2)]


def tokenizer_section(run: Run) -> list[Block]:
    """The blocks of the tokenizer's own report."""
    return [Heading("Tokenizer"), *tokenizer_blocks(run.tokenizer)] if run.tokenizer is not None else []


def system_section(run: Run, price: Price, priced_by: str | None) -> list[Block]:
    """Time and cost by stage, the machine, the versions."""
    stages = [stage for stage in run.stages if stage.seconds is not None]
    costs = [price(stage) for stage in stages]
    columns = ["stage", "processes", "precision", "training time", "tokens/s", "MFU"] + (["cost"] if priced_by else [])
    rows = []
    for stage, cost in zip(stages, costs, strict=True):
        speed, mfu = stage.median("train/tok_per_sec"), stage.median("train/mfu")
        facts = [stage.title, count(stage.processes), stage.precision]
        facts += [duration(stage.seconds), count(speed), percent(mfu)]
        rows.append(facts + ([dollars(cost)] if priced_by else []))
    if len(rows) > 1:
        sums = ["total", "", "", duration(total([stage.seconds for stage in stages])), "", ""]
        rows.append(sums + ([dollars(total(costs))] if priced_by else []))
    blocks: list[Block] = [Table(columns, rows)] if rows else []
    remark = "Time of training steps; speed and MFU are medians. Evaluations, checkpoints and preparation come on top."
    blocks += [Text(remark + (f" {priced_by}" if priced_by else ""), quiet=True)] if rows else []
    if run.launches:
        blocks.append(Table(["system", ""], system_rows(run.launches[-1]), left=2))
    return [Heading("System and cost"), *blocks] if blocks else []


def system_rows(launch: dict[str, Any]) -> list[list[str]]:
    """The machine and the software of a launch."""
    hardware, versions = launch.get("hardware") or {}, launch.get("versions") or {}
    gpus, checkout = hardware.get("gpus") or [], launch.get("git") or {}
    dirty = ", with changes" if checkout.get("dirty") else ""
    rows = [
        ["GPUs", f"{len(gpus)} x {gpus[0]}" if gpus else ""],
        ["CPU", f"{hardware.get('cpu', '')}, {hardware.get('cores', '?')} cores" if hardware.get("cpu") else ""],
        ["memory", f"{hardware['memory_gb']} GB" if hardware.get("memory_gb") else ""],
        ["software", ", ".join(f"{name} {version}" for name, version in versions.items())],
        ["code", f"commit {str(checkout.get('commit', ''))[:12]}{dirty}" if checkout else ""],
        ["last launch", str(launch.get("time", ""))],
    ]
    return [row for row in rows if row[1]]


def commands_section(run: Run) -> list[Block]:
    blocks: list[Block] = []
    commands_of = {"tokenizer": commands([*run.tokenizer_launches, run.tokenizer or {}])}
    commands_of |= {stage.title: stage.commands + stage.evaluations for stage in run.stages}
    for name, given in commands_of.items():
        if given:
            blocks += [Heading(name, 3), Code("\n".join(given))]
    return [Heading("Commands"), *blocks] if blocks else []


def notes_section(run: Run) -> list[Block]:
    """What is missing, unfinished or damaged, one line each."""
    return [Heading("Not in this report"), *(Text(note) for note in run.notes)] if run.notes else []
