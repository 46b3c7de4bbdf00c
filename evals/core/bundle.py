"""A bundle: the directory that holds the examples of CORE's tasks, laid out as `core.yaml` says."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recipes.utils.errors import InputError
from recipes.utils.json_lines import read_json_rows
from recipes.utils.yaml_files import read_yaml

DEFINITIONS = Path(__file__).with_name("core.yaml")
GPT2_CORE = 0.256525  # CORE of the 1.6B model
HOW_TO_FETCH = "python -m evals.core.fetch --bundle DIR gets one"

Example = dict[str, Any]


@dataclass(frozen=True)
class CoreTask:
    """One task: how its examples are posed, and what guessing scores."""

    label: str
    file: str  # within the bundle
    type: Literal["multiple_choice", "schema", "language_modeling"]
    shots: int  # solved examples in front of each question
    baseline: float  # accuracy of guessing, 0 to 1
    delimiter: str = " "  # between a question and its answer


def read_tasks(bundle: Path) -> list[CoreTask]:
    """The tasks of a bundle: those of its own `core.yaml`, or all of CORE. Raises `InputError` if it is no bundle."""
    if not bundle.is_dir():
        raise InputError(f"no CORE bundle in {bundle}: no such directory; {HOW_TO_FETCH}.")
    definitions = bundle / "core.yaml"
    return read_definitions(definitions if definitions.exists() else DEFINITIONS)


def core_tasks() -> list[CoreTask]:
    """The 22 tasks whose mean is CORE."""
    return read_definitions(DEFINITIONS)


def read_definitions(path: Path) -> list[CoreTask]:
    """Tasks as a YAML file defines them, baselines there in percent. Raises `InputError` if it does not."""
    content = read_yaml(path)
    try:
        tasks = [read_definition(row) for row in content["tasks"]]
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} defines no tasks ({reason}): see {DEFINITIONS} for what one looks like.") from None
    labels = [task.label for task in tasks]
    if not labels:
        raise InputError(f"{path} defines no tasks: see {DEFINITIONS} for what one looks like.")
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"{path} defines task {twice} twice.")
    return tasks


def read_definition(row: dict[str, Any]) -> CoreTask:
    """One task of a YAML file. Raises `ValueError` naming what is wrong with it."""
    task = CoreTask(**row)
    wrong = {
        "label": not isinstance(task.label, str),
        "file": not isinstance(task.file, str),
        "type": not isinstance(task.type, str) or task.type not in CHECKS,
        "shots": type(task.shots) is not int or task.shots < 0,
        "baseline": type(task.baseline) not in (int, float) or not 0 <= task.baseline < 100,
        "delimiter": not isinstance(task.delimiter, str),
    }
    if name := next((name for name, is_wrong in wrong.items() if is_wrong), None):
        raise ValueError(f"task {task.label}: {name} {getattr(task, name)!r}")
    return replace(task, baseline=task.baseline / 100)


def choose_tasks(tasks: Sequence[CoreTask], labels: Sequence[str]) -> list[CoreTask]:
    """The tasks called `labels`. Raises `InputError` for an unknown label, naming the closest."""
    by_label = {task.label: task for task in tasks}
    for label in labels:
        if label not in by_label:
            closest = difflib.get_close_matches(label, by_label, n=1)
            remedy = f"did you mean {closest[0]}?" if closest else f"known are {', '.join(by_label)}."
            raise InputError(f"unknown task {label!r}: {remedy}")
    return [by_label[label] for label in dict.fromkeys(labels)]


def available(tasks: Sequence[CoreTask], bundle: Path) -> list[CoreTask]:
    """Those tasks whose files the bundle holds. Raises `InputError` without any."""
    found = [task for task in tasks if (bundle / task.file).exists()]
    if not found:
        raise InputError(f"{bundle} holds no file of any task, such as {tasks[0].file}; {HOW_TO_FETCH}.")
    return found


def check_enough(tasks: Sequence[CoreTask], max_examples: int | None) -> None:
    """Raise `InputError` if `max_examples` of a task leave too few to be solved in front of each."""
    task = max(tasks, key=lambda task: task.shots)
    if max_examples is not None and max_examples <= task.shots:
        raise InputError(
            f"{max_examples} examples of {task.label} are too few: {task.shots} others stand before each question."
        )


def read_examples(task: CoreTask, bundle: Path) -> list[Example]:
    """All examples of a task. Raises `InputError` naming the first damaged line: without it, no figure compares."""
    path = bundle / task.file
    examples = []
    for place, example in read_json_rows(path):
        wrong = CHECKS[task.type](example) if isinstance(example, dict) else "not an object"
        if wrong:
            raise InputError(f"{place}: {wrong}.")
        examples.append(example)
    if len(examples) <= task.shots:
        raise InputError(f"{path} holds {len(examples)} examples, too few for {task.shots} in front of another.")
    return examples


# What is wrong with an example of each type; an empty string where nothing is


def wrong_choice(example: Example) -> str:
    """Multiple choice: one question, several answers."""
    return _missing_text(example, "query") or _wrong_options(example, "choices")


def wrong_schema(example: Example) -> str:
    """Schema: several beginnings, one end."""
    return _missing_text(example, "continuation") or _wrong_options(example, "context_options")


def wrong_continuation(example: Example) -> str:
    """Language modeling: a beginning and its end."""
    return _missing_text(example, "context") or _missing_text(example, "continuation")


def _missing_text(example: Example, name: str) -> str:
    value = example.get(name)
    return "" if isinstance(value, str) and value.strip() else f"{name} must be a text, not {value!r:.50}"


def _wrong_options(example: Example, name: str) -> str:
    options, gold = example.get(name), example.get("gold")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(each, str) for each in options):
        return f"{name} must be a list of at least two texts, not {options!r:.50}"
    if type(gold) is not int or not 0 <= gold < len(options):
        return f"gold must be the place of one of the {len(options)} {name}, not {gold!r:.50}"
    return ""


CHECKS: dict[str, Callable[[Example], str]] = {
    "multiple_choice": wrong_choice,
    "schema": wrong_schema,
    "language_modeling": wrong_continuation,
}
