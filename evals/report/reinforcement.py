"""The report's section on GRPO: pass@k, the replies in training, and the same problems before and after."""

import re

from evals.chat.before_after import heading
from evals.report.gather import Run, Stage
from evals.report.page import Block, Heading, Picture, Pictures, Table, Text
from evals.uncertainty import BY_WORDS
from recipes.plots.curves import STANDARD_ERROR, over_run, plot_reinforcement, series
from recipes.utils.plain_text import share


def reinforcement_section(run: Run) -> list[Block]:
    """A picture of all figures by step, tables of their ends, and problems; empty if the run holds nothing for it."""
    stage = next((stage for stage in run.stages if stage.name == "grpo"), None)
    if stage is None:
        return []
    measures = measures_of(stage)
    if not (measures or series(stage.records, "train/reward")):
        return []
    rows = []
    for key, name in measures.items():
        points, errors = series(stage.records, key), dict(series(stage.records, key + STANDARD_ERROR))
        rows.append([name, *(share(value, errors.get(step)) for step, value in (points[0], points[-1]))])
    rollouts = over_run(stage.records)
    changes = [f"{name} from {before} to {after}" for name, before, after in [*rows, *rollouts]]
    alt = f"GRPO by step: {', '.join(changes)}."
    blocks: list[Block] = [Heading("Reinforcement")]
    blocks.append(Pictures([Picture("reinforcement", plot_reinforcement(stage.records, measures), alt)]))
    if rows:
        blocks.append(Table(["held-out problems", "before", "after"], rows))
    if any("±" in cell for row in rows for cell in row):
        blocks.append(Text(BY_WORDS, quiet=True))
    if rollouts:
        blocks.append(Table(["replies in training", "first tenth of the steps", "last tenth"], rollouts))
    return blocks + problems_before_and_after(stage)


def measures_of(stage: Stage) -> dict[str, str]:
    """What was measured on held-out problems: the key of its records, and its name."""
    keys = {key for record in stage.records for key in record if re.fullmatch(r"val/(greedy|pass@\d+)", key)}
    figures = [key for key in keys if series(stage.records, key)]
    return {key: key.removeprefix("val/") for key in sorted(figures, key=lambda key: (len(key), key))}


def problems_before_and_after(stage: Stage) -> list[Block]:
    """The same held-out problems, with what the model replied before and after GRPO."""
    if not stage.problems:
        return []
    rows = [
        [each.question, each.answer, *(attempt.text if attempt else "" for attempt in (each.before, each.after))]
        for each in stage.problems
    ]
    table = Table(["problem", "answer", "before", "after"], rows, left=4)
    return [Heading("Problems before and after", 3), Text(heading(stage.problems), quiet=True), table]
