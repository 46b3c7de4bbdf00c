"""The model card of a stage: README.md with the Hub's metadata, the report's figures in its `model-index`.

Its text is in model_card.md.jinja. Our cards carry a digest of their text: one that was written or changed by hand
has none that fits, and is never overwritten.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from evals.chat.tasks import CHAT_CORE
from evals.report.formats import count, duration, listed, percent, task_name
from evals.report.gather import Run, Stage, commands, stages_up_to
from evals.report.page import Code, Table, escape_markdown
from recipes.utils import atomic
from recipes.utils.run_directory import STAGES

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
MARK = re.compile(r"<!-- written by evals\.report: ([0-9a-f]{64}) -->\n")
DATASETS = {  # of a chat task: name for people, id, configuration and split
    "arc_easy": ("ARC-Easy", "allenai/ai2_arc", "ARC-Easy", "test"),
    "arc_challenge": ("ARC-Challenge", "allenai/ai2_arc", "ARC-Challenge", "test"),
    "mmlu": ("MMLU", "cais/mmlu", "all", "test"),
    "gsm8k": ("GSM8K", "openai/gsm8k", "main", "test"),
    "gsm8k_flexible": ("GSM8K", "openai/gsm8k", "main", "test"),
    "humaneval": ("HumanEval", "openai/openai_humaneval", None, "test"),
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Result:
    """A figure of the report: as the card's table shows it, and as the `model-index` holds it."""

    name: str
    text: str
    value: float
    metric: str
    dataset: tuple[str, str, str | None, str | None]  # name, id, configuration, split

    def as_eval_result(self) -> EvalResult:
        name, identifier, config, split = self.dataset
        return EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_name=name,
            dataset_type=identifier,
            dataset_config=config,
            dataset_split=split,
            metric_type=self.metric,
            metric_name=self.name,
            metric_value=self.value,
        )


def write_model_card(stage: Stage, run: Run) -> Path | None:
    """Write README.md into the directory of a finished stage; None if one is there that is not ours, or was edited."""
    path = stage.directory / "README.md"
    if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
        return None
    atomic.write_text(path, sign(str(build_model_card(stage, run))))
    return path


def build_model_card(stage: Stage, run: Run, repo: str | None = None) -> ModelCard:
    """The card: what the model is, how it was made, what it can do, how to load it (from `repo`), what to expect."""
    source, path, results = base_model(stage, run), stages_up_to(stage, run), stage_results(stage)
    data = ModelCardData(
        language="en",
        license=None if source else "apache-2.0",  # another model's licence is its authors' to state
        base_model=source,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[
            "nanochat",
            *(["trained-from-scratch"] if from_scratch(stage, run) else []),
            *(["trl"] if stage.name in ("sft", "dpo", "grpo") else []),
        ],
        datasets=list(dict.fromkeys(each.data for each in path if is_on_hub(each.data))) or None,
        model_name=f"{run.name}-{stage.name}",
        eval_results=[result.as_eval_result() for result in results] or None,
    )
    figures = Table(["measured", "value"], [[result.name, result.text] for result in results])
    given = commands([*run.tokenizer_launches, *(launch for each in path for launch in each.launches)])
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        escape=escape_markdown,
        stage=stage,
        model=stage.parameters,
        model_name=data.model_name,
        base_model=source,
        from_scratch=from_scratch(stage, run),
        has_code=any(stage.directory.glob("modeling_*.py")),
        repo=repo,
        calls_tools=stage.name != "base" and calls_tools(stage),
        figures=figures.markdown("") if results else None,
        notes=stage.chat.notes if stage.chat is not None else [],
        stages=training_table(path).markdown(""),
        has_preferences=any(each.name == "dpo" for each in path),
        has_read_primer=any((each.data or "").startswith("primer") for each in path),
        commands=Code("\n".join(given)).markdown("") if given else None,
    )


def base_model(stage: Stage, run: Run) -> str | None:
    """The model on the Hub that the run, as far as this stage, began with; None if it began with none."""
    sources = [each.launched("source") for each in stages_up_to(stage, run)]
    return next((each for each in reversed(sources) if is_on_hub(each) and Path(each).name not in STAGES), None)


def from_scratch(stage: Stage, run: Run) -> bool:
    """Whether all of its training is this run's, its pretraining included."""
    stages = stages_up_to(stage, run)
    sources = [Path(str(source)).name for each in stages if (source := each.launched("source")) is not None]
    return stages[0].name == "base" and base_model(stage, run) is None and set(sources) <= set(STAGES)


def is_on_hub(name: Any) -> bool:
    """Whether a stage's data or source is a name on the Hub, not a path here."""
    return isinstance(name, str) and HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def calls_tools(stage: Stage) -> bool:
    """Whether its chat template is ours, which knows calls."""
    template = stage.directory / "chat_template.jinja"
    return template.exists() and "<|python_start|>" in template.read_text(encoding="utf-8", errors="replace")


def training_table(stages: list[Stage]) -> Table:
    """Data, steps, tokens and time of each stage; columns of which nothing is known are left out."""
    columns = ["stage", "data", "steps", "tokens", "training time", "processes", "precision"]
    rows = [
        [
            each.title,
            each.data or "",
            count(each.steps),
            count(each.tokens),
            duration(each.seconds),
            count(each.processes),
            each.precision,
        ]
        for each in stages
    ]
    known = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return Table([columns[index] for index in known], [[row[index] for index in known] for row in rows], left=2)


def stage_results(stage: Stage) -> list[Result]:
    """The stage's figures. A part of CORE is left out: any name for it in the index would mislead."""
    results = []
    if stage.bpb is not None:
        data = stage.data or "its corpus"
        source = data if HUB_ID.fullmatch(data) else re.sub(r"[^\w.-]+", "-", data).strip("-") or "corpus"
        dataset = (f"{data}, held out", source, None, "validation")
        results.append(Result("bits per byte", f"{stage.bpb:.4f}", stage.bpb, "bits_per_byte", dataset))
    if stage.core is not None and stage.core.core is not None and stage.core.max_examples is None:
        dataset = ("CORE, the 22 tasks of DCLM", "core", None, None)
        results.append(Result("CORE", f"{stage.core.core:.4f}", stage.core.core, "core", dataset))
    for name, score in stage.chat.tasks.items() if stage.chat is not None else ():
        dataset = DATASETS.get(name, (f"primer, {task_name(name)}", f"primer-{name}", None, "validation"))
        text = f"{percent(score.accuracy)} of {score.count:,} problems"
        results.append(Result(f"accuracy, {task_name(name)}", text, score.accuracy, "accuracy", dataset))
    if stage.chat is not None and stage.chat.chat_core is not None:
        core = stage.chat.chat_core
        dataset = (f"ChatCORE: {listed([task_name(name) for name in CHAT_CORE])}", "chat_core", None, None)
        results.append(Result("ChatCORE", f"{core:.4f}", core, "chat_core", dataset))
    if stage.judge is not None:
        score, judge = stage.judge.mean_score, stage.judge.judge
        name = f"mean score of 0 to 100, judged by {judge}"
        dataset = (f"{stage.judge.count:,} instructions", "instructions", None, None)
        results.append(Result(name, f"{score:.1f}", score, "judge_score", dataset))
    return results


# Whose card it is


def sign(text: str) -> str:
    """The card with our mark after its metadata."""
    mark = f"<!-- written by evals.report: {hashlib.sha256(text.encode()).hexdigest()} -->\n"
    end = text.index("\n---\n", 3) + len("\n---\n")
    return text[:end] + mark + text[end:]


def is_ours(text: str) -> bool:
    """Whether we wrote a card and nobody has changed it since."""
    mark = MARK.search(text)
    if mark is None:
        return False
    rest = text[: mark.start()] + text[mark.end() :]
    return hashlib.sha256(rest.encode()).hexdigest() == mark[1]
