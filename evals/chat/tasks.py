"""Tasks for chat models: the primer's exams, ARC, MMLU, GSM8K and HumanEval, all as problems of one type.

A task has a name, a way to answer, and problems that can grade an answer. To add a task, add a function to `TASKS`.
"""

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from typing import Any, Literal

from evals.chat import humaneval
from evals.execution import ExecutionUnavailable, containment
from recipes.data.messages import user
from recipes.data.primer.exams import EXAMS, exam, grade
from recipes.data.sources.exams import (
    ARC_CHALLENGE,
    ARC_EASY,
    MMLU,
    MULTIPLE_CHOICE,
    offered_letters,
    render_arc,
    render_mmlu,
)
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.data.sources.tables import Table
from recipes.data.sources.talk import HUMANEVAL
from recipes.utils.errors import InputError, suggest
from recipes.utils.numerals import ends_in_number
from tokenizer.chat import NANOCHAT, PLAIN, Message

SHUFFLE_SEED = 1337  # of the rows, from which the first `max_problems` are taken
CHAT_CORE = (*MULTIPLE_CHOICE, "gsm8k", "humaneval")
# Outcomes of an answer. GSM8K's strict accuracy does not count `UNMARKED` answers, its flexible accuracy does.
RIGHT, UNMARKED, WRONG = "right", "right but unmarked", "wrong"
FLEXIBLE = "_flexible"  # suffix of the task's name in the result that counts `UNMARKED` answers as right
GSM8K_TOKENS = 512  # most tokens of an answer, as in nanochat
MOST_QUESTIONS = 1000  # of an exam of the primer, which are all different
CHOICE_NOTES = {
    PLAIN: "ARC and MMLU are asked in the wording of nanochat-transformers, which differs from nanochat's.",
    NANOCHAT: "ARC and MMLU are asked in nanochat's wording, as the model's chat format specifies.",
}
MARKED = re.compile(r"#### (-?[0-9.,]+)")  # as in nanochat's tasks/gsm8k.py


@dataclass(frozen=True)
class Problem:
    """A conversation that ends with a question, and how its answer is graded."""

    messages: list[Message]
    answer: str  # a right answer, for people to read
    grade: Callable[[str], str]  # of a reply's last message, after all tool calls; returns `RIGHT` or another outcome
    letters: Sequence[str] = ()  # the choices, if the answer is a letter
    alike: str = ""  # the same for problems that are likely solved or failed together; empty: it is like no other

    def is_right(self, reply: str) -> bool:
        """Whether a reply's last message is right."""
        return self.grade(reply) == RIGHT


@dataclass(frozen=True)
class Task:
    """Problems that are answered in the same way: by generating text, or by the letter with the highest logit."""

    name: str
    kind: Literal["generate", "letters"]
    baseline: float  # accuracy of guessing
    problems: list[Problem]
    max_new_tokens: int = 256  # of one answer, by default
    note: str = ""  # printed before the evaluation
    flexible: bool = False  # whether answers can be `UNMARKED`, which a second result counts as right


def check_task(spec: str) -> None:
    """Raise `InputError` for an unknown task, and for what cannot stand after its colon."""
    name, _, path = spec.partition(":")
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: {suggest(name, TASKS)}")
    if path and name in PRIMER_TASKS and not (path.isdecimal() and 1 <= int(path) <= MOST_QUESTIONS):
        raise InputError(
            f"task {spec}: {name} is generated, not read from a file: leave out the path, or say how many questions "
            f"it has, from 1 to {MOST_QUESTIONS:,}, as {name}:600."
        )


def split_tasks(specs: str) -> list[str]:
    """The tasks of a comma-separated list. Raises `InputError` for one that is unknown, or that stands twice."""
    tasks = [spec.strip() for spec in specs.split(",")]
    names = [spec.partition(":")[0] for spec in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"task {twice.pop()} stands twice in {specs}.")
    for spec in tasks:
        check_task(spec)
    return tasks


def open_task(spec: str, max_problems: int | None = None, wording: str = PLAIN) -> Task:
    """Open the task that `spec` names: `mmlu`, or `mmlu:PATH` for local files in the Hub's layout.

    An exam of the primer has 200 questions, `multi_step:600` the same and 400 more.
    With `max_problems`, the task has that many problems, always the same ones. `wording` is that of multiple choice
    (see `recipes.data.messages`). Raises `InputError` for an unknown task, and for missing or unsuitable files.
    """
    check_task(spec)
    name, _, path = spec.partition(":")
    options = {"wording": wording} if name in MULTIPLE_CHOICE else {}
    task = TASKS[name](path or None, max_problems, **options)
    if not task.problems:
        raise InputError(f"task {spec} holds no problems.")
    return task


def draw(rows: Sequence[Any], max_problems: int | None) -> list[tuple[int, Any]]:
    """The first `max_problems` rows after a shuffle with a fixed seed, with their numbers."""
    order = list(range(len(rows)))
    random.Random(SHUFFLE_SEED).shuffle(order)
    return [(number, rows[number]) for number in order[:max_problems]]


def right_if(holds: Callable[[str], bool]) -> Callable[[str], str]:
    """A `Problem.grade` with the outcomes `RIGHT` and `WRONG`."""
    return lambda reply: RIGHT if holds(reply) else WRONG


# Exams of the primer


def open_primer_exam(name: str, count: str | None, max_problems: int | None) -> Task:
    items = [item for _, item in draw(exam(name, int(count)) if count else exam(name), max_problems)]
    problems = [
        Problem(item.messages, item.answer, right_if(partial(grade, item)), alike=item.alike) for item in items
    ]
    return Task(name, "generate", 0.25 if name == "choice" else 0.0, problems)


# Multiple choice


def open_exam(
    table: Table,
    render: Callable[..., list[Message]],
    path: str | None,
    max_problems: int | None,
    wording: str = PLAIN,
) -> Task:
    """The test split of a multiple-choice dataset, with questions in the same form as in training conversations."""
    problems = []
    for number, row in draw(table.open(path, "test"), max_problems):
        try:
            question, answer = render(row, wording)
        except InputError as error:
            raise InputError(f"{table.name}, test row {number}: {error}") from None
        problems.append(choice_problem([question], answer["content"], offered_letters(row, wording)))
    return Task(table.name, "letters", 0.25, problems)


def choice_problem(messages: list[Message], answer: str, letters: Sequence[str]) -> Problem:
    return Problem(messages, answer, right_if(partial(eq, answer)), letters)


# Numbers


def open_gsm8k(path: str | None, max_problems: int | None) -> Task:
    rows = draw(gsm8k_problems(path, "test"), max_problems)
    problems = [
        Problem([user(row["question"])], row["answer"], partial(grade_gsm8k, row["answer"])) for _, row in rows
    ]
    return Task("gsm8k", "generate", 0.0, problems, GSM8K_TOKENS, flexible=True)


def grade_gsm8k(answer: str, reply: str) -> str:
    """`RIGHT` if the answer follows the first `#### `, `UNMARKED` if it is the reply's final number, else `WRONG`.

    As in nanochat, the text after `#### ` must equal the answer except for commas: 18.00 is not 18.
    """
    marked = MARKED.search(reply)
    if marked is not None and marked[1].replace(",", "") == answer:
        return RIGHT
    return UNMARKED if ends_in_number(answer, reply) else WRONG


def number_problem(question: str, answer: str, alike: str = "") -> Problem:
    """A question whose answer is a number; a reply is right if its final number is the answer."""
    return Problem([user(question)], answer, right_if(partial(ends_in_number, answer)), alike=alike)


# Programs


def open_humaneval(path: str | None, max_problems: int | None) -> Task:
    """HumanEval's 164 functions. Raises `InputError` if programs cannot be run on this machine."""
    try:
        note = f"programs of the model are contained by {', '.join(containment())}"
    except ExecutionUnavailable as error:
        raise InputError(f"task humaneval: {error}.") from None
    table = replace(HUMANEVAL, columns=dict.fromkeys(humaneval.COLUMNS, "text"))
    rows = [row for _, row in draw(table.open(path, "test"), max_problems)]
    problems = [
        Problem([user(row["prompt"])], row["prompt"] + row["canonical_solution"], partial(humaneval.run_reply, row))
        for row in rows
    ]
    return Task("humaneval", "generate", 0.0, problems, humaneval.MAX_NEW_TOKENS, note)


def notes_on(tasks: Collection[str], wording: str) -> list[str]:
    """Notes on how the results of `tasks`, by name, compare with nanochat's and others; printed below the results."""
    notes = []
    if set(MULTIPLE_CHOICE) & set(tasks):
        notes.append(CHOICE_NOTES[wording])
    if "gsm8k" in tasks:
        notes.append(
            "GSM8K counts only the number after `#### `, as nanochat and lm-eval's strict-match do. This accuracy "
            "enters ChatCORE, so that it compares with nanochat's. GSM8K, flexible also counts a reply that ends in "
            "the right number without the mark, as lm-eval's flexible-extract does."
        )
    if "humaneval" in tasks:
        notes.append(
            "HumanEval also runs code that nanochat's extraction misses (amid prose or in other fences, a function "
            "body alone, helpers of the prompt), so its accuracy can be higher than nanochat's."
        )
    if set(CHAT_CORE) <= set(tasks):
        notes.append(
            "ChatCORE is the mean over these five tasks; nanochat's of October 2025 to July 2026 had a sixth, "
            "SpellingBee, so the two do not compare."
        )
    return notes


PRIMER_TASKS = tuple(EXAMS)
TASKS: dict[str, Callable[[str | None, int | None], Task]] = {
    **{name: partial(open_primer_exam, name) for name in PRIMER_TASKS},
    "arc_easy": partial(open_exam, ARC_EASY, render_arc),
    "arc_challenge": partial(open_exam, ARC_CHALLENGE, render_arc),
    "mmlu": partial(open_exam, MMLU, render_mmlu),
    "gsm8k": open_gsm8k,
    "humaneval": open_humaneval,
}
