"""Read everything that a run has left in its files, for the report and the model cards. No model is loaded.

What is missing is None or empty. What is damaged counts as missing, and a note says so.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.chat.before_after import ShownProblem, parse_problems
from evals.report.files import (
    ChatScores,
    CoreScores,
    JudgeScores,
    Parameters,
    Samples,
    count_parameters,
    parse_chat,
    parse_command,
    parse_core,
    parse_failures,
    parse_judge,
    parse_samples,
    parse_tokenizer,
    read,
    read_records,
)
from recipes.plots.curves import Records, series
from recipes.plots.figures import is_number
from recipes.utils.errors import InputError
from recipes.utils.hardware import precision_name
from recipes.utils.provenance import portable, read_launches
from recipes.utils.run_directory import (
    ARGUMENTS,
    BEFORE_AFTER,
    CHAT_RESULTS,
    CONFIG,
    CORE_RESULTS,
    EVALS,
    JUDGE_RESULTS,
    LAUNCHES,
    METRICS,
    SAMPLES,
    STAGES,
    TOKENIZER,
    TOKENIZER_EVALUATION,
    check_run,
    is_finished,
)


@dataclass(frozen=True)
class Stage:
    """What a stage's directory holds."""

    name: str
    directory: Path
    finished: bool
    records: Records
    arguments: dict[str, Any]
    launches: list[dict[str, Any]]
    parameters: Parameters | None
    chat: ChatScores | None
    core: CoreScores | None
    judge: JudgeScores | None
    samples: Samples | None
    problems: list[ShownProblem] | None  # of GRPO, before and after
    evaluations: list[str]  # the commands that made what evals/ holds

    @property
    def title(self) -> str:
        """The stage's display name."""
        return STAGES[self.name]

    @property
    def steps(self) -> int | None:
        """Optimizer steps taken."""
        steps = [record["step"] for record in self.records if is_number(record.get("step"))]
        return int(max(steps)) if steps and self.last("train/loss") is not None else None

    @property
    def tokens(self) -> int | None:
        """Tokens trained on (for SFT, DPO and GRPO: read, prompts included). None if unknown."""
        batch = self.arguments.get("total_batch_size")
        if is_number(batch) and self.steps is not None:
            return int(batch) * self.steps
        if self.name in ("sft", "dpo", "grpo") and self.parameters is not None and self.flops is not None:
            return round(self.flops / self.parameters.flops_per_token_alone)
        return None

    @property
    def seconds(self) -> float | None:
        """Training time, without evaluations and checkpoints."""
        return self.last("total_training_time")

    @property
    def flops(self) -> float | None:
        """Training compute, in floating-point operations."""
        return self.last("total_training_flops")

    @property
    def bpb(self) -> float | None:
        """Final bits per byte on the validation split."""
        return self.last("val/bpb")

    @property
    def data(self) -> str | None:
        said = self.launched("data") or self.arguments.get("conversations") or self.arguments.get("dataset")
        return None if said is None else portable(str(said))

    @property
    def processes(self) -> int | None:
        """Number of processes of the last launch."""
        processes = self.launched("processes")
        return int(processes) if is_number(processes) and processes > 0 else None

    @property
    def precision(self) -> str:
        """Precision of the last launch; empty if unknown."""
        return precision_name(str(self.launched("precision") or ""))

    @property
    def commands(self) -> list[str]:
        """Commands of all launches in order, without repeats."""
        return commands(self.launches)

    def launched(self, fact: str) -> Any:
        """The newest recorded value of `fact` among the launches."""
        return next((launch[fact] for launch in reversed(self.launches) if launch.get(fact)), None)

    def last(self, key: str) -> float | None:
        """The last value of `key` in metrics.jsonl."""
        values = series(self.records, key)
        return values[-1][1] if values else None

    def median(self, key: str) -> float | None:
        """The median value of `key` in metrics.jsonl."""
        values = [value for _, value in series(self.records, key)]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Run:
    directory: Path
    stages: list[Stage]
    tokenizer: dict[str, Any] | None  # tokenizer_evaluation.json
    tokenizer_launches: list[dict[str, Any]]
    notes: list[str]  # of what is damaged or unfinished, a sentence each

    @property
    def name(self) -> str:
        return self.directory.resolve().name

    @property
    def launches(self) -> list[dict[str, Any]]:
        """Launches of the tokenizer and of all stages, in order."""
        return [*self.tokenizer_launches, *(launch for stage in self.stages for launch in stage.launches)]

    def newest(self, attribute: str) -> Stage | None:
        """The last stage that has `attribute` (chat, core, judge, samples, parameters)."""
        return next((stage for stage in reversed(self.stages) if getattr(stage, attribute) is not None), None)


def gather(directory: Path) -> Run:
    """Read a run. Raises `InputError` if `directory` does not hold one."""
    check_run(directory)
    notes: list[str] = []
    stages = [gather_stage(directory / name, notes) for name in STAGES if (directory / name).is_dir()]
    stages = [stage for stage in stages if stage.records or stage.parameters or stage.chat or stage.core]
    home = directory / "tokenizer"
    tokenizer = read(home / TOKENIZER_EVALUATION, parse_tokenizer, notes)
    if not stages and tokenizer is None and not (home / TOKENIZER).exists():
        wanted = ", ".join(f"{name}/" for name in STAGES)
        raise InputError(f"nothing to report in {directory}: none of {wanted} holds a model or {METRICS}.")
    return Run(directory, stages, tokenizer, read_launches(home / LAUNCHES), notes)


def gather_stage(directory: Path, notes: list[str]) -> Stage:
    """Read a stage's directory; what is wrong with it is added to `notes`."""
    evals = directory / EVALS
    stage = Stage(
        name=directory.name,
        directory=directory,
        finished=is_finished(directory),
        records=read_records(directory / METRICS, notes),
        arguments=read(directory / ARGUMENTS, dict, notes) or {},
        launches=read_launches(directory / LAUNCHES),
        parameters=read(directory / CONFIG, lambda _: count_parameters(directory), notes),
        chat=read(evals / CHAT_RESULTS, parse_chat, notes),
        core=read(evals / CORE_RESULTS, parse_core, notes),
        judge=read(evals / JUDGE_RESULTS, parse_judge, notes),
        samples=read(evals / SAMPLES, parse_samples, notes),
        problems=read(directory / BEFORE_AFTER, parse_problems, notes),
        evaluations=[command for path in sorted(evals.glob("*.json")) if (command := read(path, parse_command, []))],
    )
    for path in (evals / CHAT_RESULTS, evals / CORE_RESULTS):
        for task, reason in (read(path, parse_failures, []) or {}).items():
            notes.append(f"{directory.name}: {task} could not be measured ({reason}).")
    if stage.records and not stage.finished:
        made = f"after step {stage.steps:,}" if stage.steps is not None else "before its first step"
        notes.append(f"{directory.name} is not finished: its figures end {made}.")
    return stage


def commands(launches: list[dict[str, Any]]) -> list[str]:
    """Commands of launches in order, without repeats."""
    return list(dict.fromkeys(str(launch["command"]) for launch in launches if launch.get("command")))


def stages_up_to(stage: Stage, run: Run) -> list[Stage]:
    """The stages that led to this one, and this one: not DPO where GRPO began with SFT."""
    path = [stage]
    for each in reversed(run.stages[: run.stages.index(stage)]):
        source = Path(str(path[0].launched("source"))).name
        if each.name != "dpo" or source not in STAGES or source == "dpo":
            path.insert(0, each)
    return path
