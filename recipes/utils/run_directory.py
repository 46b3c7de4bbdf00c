"""Layout of a run's directory, and suggestions for wrong paths.

runs/NAME/ holds tokenizer/ and a directory per stage. A stage's directory holds the finished model, checkpoints/,
evals/ and, if it was trained with LoRA, adapter/.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from recipes.utils.errors import InputError
from recipes.utils.json_lines import scan_json_rows

# In training order, with their names for people. DPO may be left out.
STAGES = {"base": "base", "mid": "mid", "sft": "SFT", "dpo": "DPO", "grpo": "GRPO"}
SCRIPTS = {"base": "pretrain", "mid": "midtrain", "sft": "sft", "dpo": "dpo", "grpo": "grpo"}  # recipes/NAME.py
CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer.json", "adapter_config.json"
FILES = {"model": CONFIG, "tokenizer": TOKENIZER}  # the file that makes a directory a model's or a tokenizer's
METRICS, ARGUMENTS, LAUNCHES, CHECKPOINTS = "metrics.jsonl", "arguments.json", "launches.json", "checkpoints"
LOSS_CHART = "loss.png"
BEFORE_AFTER = "before_after.json"  # the same problems before and after GRPO
EVALS = "evals"  # results of evaluations, as evals/chat.json
CHAT_RESULTS, CORE_RESULTS, JUDGE_RESULTS, SAMPLES = "chat.json", "core.json", "judge.json", "samples.json"
TOKENIZER_EVALUATION = "tokenizer_evaluation.json"
FINISHED_BY = CONFIG  # written last: without it, the directory holds no finished model
MOST_NAMED = 5  # alternatives in a message


def is_run(directory: Path) -> bool:
    """Whether `directory` holds a stage or a tokenizer."""
    named = any((directory / stage / file).is_file() for stage in STAGES for file in (CONFIG, METRICS))
    return named or (directory / "tokenizer" / TOKENIZER).is_file()


def parts_of(directory: Path, what: str) -> list[Path]:
    """Subdirectories that are a `what` (model or tokenizer), sorted by stage and step: the likeliest is last."""
    order = [*STAGES, "tokenizer"] if what == "tokenizer" else list(STAGES)

    def place(path: Path) -> tuple[int, int, str]:
        step = re.search(r"\d+$", path.name)
        return (order.index(path.name) if path.name in order else -1, int(step[0]) if step else 0, path.name)

    return sorted((path for path in subdirectories(directory) if (path / FILES[what]).is_file()), key=place)


def siblings(path: Path, what: str) -> list[Path]:
    """Each `what` in the run that `path` is in, even if `path` does not exist; or else the runs there."""
    above = parent(path)
    return parts_of(above, what) if is_run(above) else [each for each in subdirectories(above) if is_run(each)]


def explain_path(path: Path, what: str) -> str:
    """The end of a sentence that says what a directory is instead of a `what`, and which path was probably meant.

    Empty for a directory that is not part of a run.
    """
    above, inside, checkpoints = parent(path), parts_of(path, what), parts_of(path / CHECKPOINTS, what)
    whole_above = (above / FILES[what]).is_file()
    if (path / ADAPTER).is_file() and what == "model":
        merged = (
            f"Give the model that they were merged into: {above}" if whole_above else "Merge them into their model"
        )
        return f": it holds only adapters. {merged}"
    if whole_above:
        return f": it is part of a {what}'s directory. Give that: {above}"
    if inside:
        whose = "holds checkpoints" if path.name == CHECKPOINTS else "is a run's directory"
        return f": it {whose}{suggest_path(f'a {what} in it', inside)}"
    if checkpoints or ((path / METRICS).is_file() and what == "model"):
        newest = f", or take a checkpoint of it: {checkpoints[-1]}" if checkpoints else ""
        return f": its training is not finished. Give the same command again{newest}"
    if in_runs := [each for run in subdirectories(path) if is_run(run) for each in parts_of(run, what)[-1:]]:
        return f": it holds runs{suggest_path(f'a {what} of one', in_runs)}"
    alone = ": it holds only a tokenizer" if (path / TOKENIZER).is_file() else ""
    return f"{alone}{suggest_path(f'a {what} beside it', siblings(path, what) if is_run(above) else [])}"


def suggest_path(what: str, paths: list[Path]) -> str:
    """A sentence that suggests the last of the paths, with the names of some others; empty without paths."""
    if not paths:
        return ""
    *others, best = paths[-1 - MOST_NAMED :]
    names = [each.name if each.parent == best.parent else str(each) for each in others]
    return f". Give {what}: {best}" + (f" (or {', '.join(names)})" if names else "")


def check_run(directory: Path, new: bool = False) -> None:
    """Raise `InputError`, naming the path that was probably meant, unless `directory` is a run, or new with `new`."""
    if is_run(directory) or (new and not directory.is_dir()):
        return
    if not directory.is_dir():
        above = parent(directory)
        runs = [above] if is_run(above) else [each for each in subdirectories(above) if is_run(each)]
        raise InputError(f"no run in {directory}: no such directory{suggest_path('one that is there', runs)}.")
    above = directory
    for _ in range(3):  # from a checkpoint: checkpoints/, stage, run
        above = parent(above)
        if is_run(above):
            raise InputError(f"{directory} is part of a run. Give the run's own directory: {above}.")
    if not new:
        runs = [each for each in subdirectories(directory) if is_run(each)]
        said = (
            f"it holds runs{suggest_path('one', runs)}" if runs else f"none of {', '.join(STAGES)} in it holds a model"
        )
        raise InputError(f"no run in {directory}: {said}.")


def check_learnt_to_chat(name: str) -> None:
    """Raise `InputError` for a model that was trained on documents only, naming models beside it that can chat."""
    if not read_documents_only(name):
        return
    stages = siblings(stage_of(Path(name)), "model")
    others = [path for path in stages if path.name in STAGES and not read_documents_only(path)]
    remedy = suggest_path("one that has", others) or ". Train it by recipes/midtrain.py and recipes/sft.py"
    raise InputError(f"{name} has not learnt to chat: it was trained on documents only, and continues text{remedy}.")


def stage_of(directory: Path) -> Path:
    """The stage's directory of a checkpoint; any other directory is returned unchanged."""
    return parent(parent(directory)) if parent(directory).name == CHECKPOINTS else directory


def read_documents_only(directory: str | Path) -> bool:
    """Whether the model was trained on documents and no conversations, by arguments.json; False if unknown.

    The chat template does not tell: base models have it too.
    """
    try:
        arguments = json.loads((stage_of(Path(directory)) / ARGUMENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(arguments, dict) and "dataset" in arguments and "conversations" not in arguments


def parent(path: Path) -> Path:
    """The parent directory, also of `.` and of paths that end in `..`."""
    return Path(os.path.normpath(path / ".."))


def subdirectories(directory: Path) -> list[Path]:
    """Subdirectories sorted by name; none if `directory` cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError:
        return []


def is_finished(output_dir: Path) -> bool:
    """Whether `output_dir` holds the finished model of a stage."""
    return os.path.exists(output_dir / FINISHED_BY)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics.jsonl. Skips damaged lines, since a killed process may leave the last one incomplete."""
    if not path.exists():
        return []
    return [
        record
        for _, record in scan_json_rows(path)
        if isinstance(record, dict) and isinstance(record.get("step"), int)
    ]
