"""Bundles: directories with the examples of CORE's tasks, in the layout that `core.yaml` defines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recipes.utils.errors import InputError, in_one_line, suggest
from recipes.utils.json_lines import read_json_rows
from recipes.utils.yaml_files import read_yaml

DEFINITIONS = Path(__file__).with_name("core.yaml")
GPT2_CORE = 0.256525  # CORE of the 1.6B model
HOW_TO_FETCH = "python -m evals.core.fetch --bundle DIR gets one"

Example = dict[str, Any]


@dataclass(frozen=True)
class CoreTask:
    """Definition of a task."""

    label: str
    file: str  # relative to the bundle
    type: Literal["multiple_choice", "schema", "language_modeling"]
    shots: int  # solved examples before each question
    baseline: float  # accuracy of guessing, 0 to 1
    delimiter: str = " "  # between a question and its answer


def read_tasks(bundle: Path) -> list[CoreTask]:
    """The tasks of a bundle: of its own `core.yaml`, or else all of CORE. Raises `InputError` if it does not exist."""
    if not bundle.is_dir():
        raise InputError(f"no CORE bundle in {bundle}: no such directory; {HOW_TO_FETCH}.")
    definitions = bundle / "core.yaml"
    return read_definitions(definitions if definitions.exists() else DEFINITIONS)


def core_tasks() -> list[CoreTask]:
    """The 22 tasks whose mean is CORE."""
    return read_definitions(DEFINITIONS)


def read_definitions(path: Path) -> list[CoreTask]:
    """Read task definitions from a YAML file (baselines in percent). Raises `InputError` if they are invalid."""
    content = read_yaml(path)
    try:
        tasks = [read_definition(row) for row in content["tasks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} defines no tasks ({in_one_line(error)}): see {DEFINITIONS} for an example."
        ) from None
    labels = [task.label for task in tasks]
    if not labels:
        raise InputError(f"{path} defines no tasks: see {DEFINITIONS} for an example.")
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"{path} defines task {twice} twice.")
    return tasks


def read_definition(row: dict[str, Any]) -> CoreTask:
    """Parse the definition of one task. Raises `ValueError` naming the wrong field."""
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
    """The tasks with these labels. Raises `InputError` for an unknown label, naming the closest."""
    by_label = {task.label: task for task in tasks}
    for label in labels:
        if label not in by_label:
            raise InputError(f"unknown task {label!r}: {suggest(label, by_label)}")
    return [by_label[label] for label in dict.fromkeys(labels)]


def available(tasks: Sequence[CoreTask], bundle: Path) -> list[CoreTask]:
    """The tasks whose files are in the bundle. Raises `InputError` if there is none."""
    found = [task for task in tasks if (bundle / task.file).exists()]
    if not found:
        raise InputError(f"{bundle} holds no file of any task, such as {tasks[0].file}; {HOW_TO_FETCH}.")
    return found


def check_enough(tasks: Sequence[CoreTask], max_examples: int | None) -> None:
    """Raise `InputError` if `max_examples` of a task are too few for its solved examples before each question."""
    task = max(tasks, key=lambda task: task.shots)
    if max_examples is not None and max_examples <= task.shots:
        raise InputError(
            f"{max_examples} examples of {task.label} are too few: each question needs {task.shots} others before it."
        )


def read_examples(task: CoreTask, bundle: Path) -> list[Example]:
    """All examples of a task. Raises `InputError` naming the first damaged line: scores without it do not compare."""
    path = bundle / task.file
    examples = []
    for place, example in read_json_rows(path):
        wrong = CHECKS[task.type](example) if isinstance(example, dict) else "not an object"
        if wrong:
            raise InputError(f"{place}: {wrong}.")
        examples.append(example)
    if len(examples) <= task.shots:
        raise InputError(f"{path} holds {len(examples)} examples, too few for {task.shots} before each question.")
    return examples


# Checks of an example for each type of task. They return what is wrong, or an empty string.


def wrong_choice(example: Example) -> str:
    """Multiple choice: one question, several answers."""
    return _missing_text(example, "query") or _wrong_options(example, "choices")


def wrong_schema(example: Example) -> str:
    """Schema: several contexts, one continuation."""
    return _missing_text(example, "continuation") or _wrong_options(example, "context_options")


def wrong_continuation(example: Example) -> str:
    """Language modeling: one context, one continuation."""
    return _missing_text(example, "context") or _missing_text(example, "continuation")


def _missing_text(example: Example, name: str) -> str:
    value = example.get(name)
    return "" if isinstance(value, str) and value.strip() else f"{name} must be a text, not {value!r:.50}"


def _wrong_options(example: Example, name: str) -> str:
    options, gold = example.get(name), example.get("gold")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(each, str) for each in options):
        return f"{name} must be a list of at least two texts, not {options!r:.50}"
    if type(gold) is not int or not 0 <= gold < len(options):
        return f"gold must be the index of one of the {len(options)} {name}, not {gold!r:.50}"
    return ""


CHECKS: dict[str, Callable[[Example], str]] = {
    "multiple_choice": wrong_choice,
    "schema": wrong_schema,
    "language_modeling": wrong_continuation,
}
