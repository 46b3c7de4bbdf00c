"""The files of a stage's directory, each read into what the report needs of it."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import modeling_nanochat  # noqa: F401  (registers NanochatGPT with transformers' Auto classes)
from evals.chat.tasks import CHAT_CORE
from evals.samples import turns
from evals.tokenizer.report import tokenizer_blocks
from recipes.plots.curves import Records
from recipes.plots.figures import is_number
from recipes.utils.json_lines import scan_json_rows
from recipes.utils.model_facts import describe_model
from recipes.utils.run_directory import EVALS

CORE_TASKS = 22
T = TypeVar("T")


@dataclass(frozen=True)
class TaskScore:
    """A task's accuracy, the accuracy of guessing (`baseline`), and `centered`: 0 is guessing, 1 is perfect."""

    count: int
    accuracy: float
    baseline: float
    centered: float
    pass_at: dict[str, float] = field(default_factory=dict)  # "pass@8" and the like, where measured
    standard_error: float | None = None  # of the accuracy, as measured; None in older files, or of a single problem


@dataclass(frozen=True)
class ChatScores:
    """evals/chat.json."""

    tasks: dict[str, TaskScore]
    notes: list[str]  # how they compare with others' figures

    @property
    def chat_core(self) -> float | None:
        """Mean of the five tasks' centered accuracies; None unless all five are there."""
        if not set(CHAT_CORE) <= self.tasks.keys():
            return None
        return statistics.fmean(self.tasks[name].centered for name in CHAT_CORE)


@dataclass(frozen=True)
class CoreScores:
    """evals/core.json."""

    tasks: dict[str, TaskScore]
    core: float | None  # of all 22 tasks
    partial: float | None  # of those at hand, where some are missing
    max_examples: int | None  # of each task, where not all were taken

    @property
    def name(self) -> str:
        """What to call the mean: only the mean of all 22 tasks is CORE."""
        if self.core is None:
            return "CORE, partial"
        return "CORE" if self.max_examples is None else f"CORE on {self.max_examples:,} examples a task"


@dataclass(frozen=True)
class JudgeScores:
    """evals/judge.json."""

    judge: str
    count: int  # answers with a score
    mean_score: float  # 0 to 100
    missing: int  # answers without: failed, or not asked for yet
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Samples:
    """evals/samples.json; the conversation as (speaker, text)."""

    completions: list[tuple[str, str, bool | None]]
    conversation: list[tuple[str, str]]

    @property
    def right(self) -> tuple[int, int]:
        """Number of right completions, and of completions that have a right answer."""
        verdicts = [verdict for *_, verdict in self.completions if verdict is not None]
        return sum(verdicts), len(verdicts)


@dataclass(frozen=True)
class Parameters:
    """A model's weights; matrices of one name and shape share a row."""

    name: str
    rows: list[tuple[str, tuple[int, ...], int]]  # name, shape, how many of them
    total: int
    flops_per_token: int  # forward and backward, at the full context
    flops_per_token_alone: int  # without the attention to others, as SFT and GRPO count
    vocab_size: int
    context: int
    generation: int
    features: tuple[str, ...]  # what transformers' NanoChat lacks, in words

    def describe(self, *sizes: str) -> str:
        """The model in one line: its name, the given sizes in words, and its features if it has any."""
        described = ", ".join((self.name, *sizes))
        if not self.features:
            return described
        generation = "generation 2026: " if self.generation == 2026 else ""
        return f"{described}; {generation}{', '.join(self.features)}"


def read(path: Path, parse: Callable[[Any], T], notes: list[str]) -> T | None:
    """A JSON file, parsed by `parse`; None if it is missing, and None with a note if it is damaged."""
    if not path.is_file():
        return None
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except Exception as error:  # a damaged file raises anything, transformers on a config as well
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        notes.append(f"{name_of(path)} is damaged and was left out ({reason}).")
        return None


def read_records(path: Path, notes: list[str]) -> Records:
    """The records of a metrics.jsonl without damaged lines: a running stage may have half-written the last one."""
    if not path.is_file():
        return []
    rows = [row for _, row in scan_json_rows(path)]
    records = [row for row in rows if isinstance(row, dict)]
    damaged = sum(not isinstance(row, dict) for row in rows[:-1])
    if damaged:
        notes.append(f"{damaged:,} damaged line{'s' if damaged > 1 else ''} of {name_of(path)} left out.")
    return records


def name_of(path: Path) -> str:
    """A file's path relative to the run's directory."""
    return "/".join(path.parts[-3:] if path.parent.name == EVALS else path.parts[-2:])


def number(value: Any) -> float:
    """`value` if it is a finite number. Raises ValueError if not."""
    if not is_number(value):
        raise ValueError(f"{value!r} is not a number")
    return value


def string(value: Any) -> str:
    """`value` if it is text. Raises ValueError if not."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def parse_task(task: dict[str, Any]) -> TaskScore:
    score = TaskScore(
        count=int(number(task["count"])),
        accuracy=number(task["accuracy"]),
        baseline=number(task["baseline"]),
        centered=number(task["centered"]),
        pass_at={name: value for name, value in task.items() if name.startswith("pass@") and is_number(value)},
        standard_error=task["standard_error"] if is_number(task.get("standard_error")) else None,
    )
    if score.count < 1:
        raise ValueError("a task without problems")
    return score


def parse_chat(content: dict[str, Any]) -> ChatScores | None:
    """chat.json as evals.chat writes it; None if every task failed."""
    tasks = {str(name): parse_task(task) for name, task in content["tasks"].items()}
    notes = [string(note) for note in content.get("notes") or []]
    return ChatScores(tasks, notes) if tasks else None


def parse_failures(content: dict[str, Any]) -> dict[str, str]:
    """Tasks of chat.json or core.json that failed, with the reasons."""
    return {str(name): str(reason) for name, reason in (content.get("failed") or {}).items()}


def parse_core(content: dict[str, Any]) -> CoreScores | None:
    """core.json as evals.core writes it; None if every task failed."""
    tasks = {str(label): parse_task(task) for label, task in content["tasks"].items()}
    whole = content.get("core") is not None and len(tasks) == CORE_TASKS
    core = number(content["core"]) if whole else None
    partial = statistics.fmean(task.centered for task in tasks.values()) if tasks and not whole else None
    most = content.get("max_examples")
    return CoreScores(tasks, core, partial, None if most is None else int(number(most))) if tasks else None


def parse_judge(content: dict[str, Any]) -> JudgeScores | None:
    """judge.json as evals.judge writes it; None if no answer was judged, and of several models, which are compared."""
    if "models" in content or content["mean_score"] is None:
        return None
    rows = [row for row in content["rows"] if is_number(row.get("score"))]
    mean = number(content["mean_score"])
    return JudgeScores(string(content["judge"]), len(rows), mean, int(content["count"]) - len(rows), rows)


def parse_samples(content: dict[str, Any]) -> Samples:
    """samples.json as evals.samples writes it."""
    completions = [
        (string(each["prompt"]), string(each["completion"]), each["right"]) for each in content.get("completions", [])
    ]
    if any(right not in (True, False, None) for *_, right in completions):
        raise ValueError("right is to be true, false or null")
    said = turns(content.get("conversation", []))
    return Samples(completions, [(speaker, string(text)) for speaker, text in said])


def parse_command(content: dict[str, Any]) -> str:
    return string(content["command"])


def parse_tokenizer(content: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_evaluation.json as tokenizer.evaluate writes it. Raises what drawing it would raise."""
    tokenizer_blocks(content)
    return content


def count_parameters(directory: Path) -> Parameters:
    """Count the parameters of a checkpoint from its config.json alone. Code in the checkpoint is not run."""
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    rows: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, parameter in model.named_parameters():
        words = [word for word in name.removesuffix(".weight").split(".") if word not in ("model", "transformer")]
        key = ".".join("*" if word.isdigit() else word for word in words), tuple(parameter.shape)
        rows[key] = rows.get(key, 0) + 1
    context = int(getattr(config, "max_position_embeddings", 1024))
    facts = describe_model(model, context)
    return Parameters(
        name=facts.name,
        rows=[(name, shape, count) for (name, shape), count in rows.items()],
        total=sum(parameter.numel() for parameter in model.parameters()),
        flops_per_token=facts.flops_per_token,
        flops_per_token_alone=describe_model(model, 1).flops_per_token,
        vocab_size=facts.vocab_size,
        context=context,
        generation=facts.generation,
        features=facts.features,
    )
