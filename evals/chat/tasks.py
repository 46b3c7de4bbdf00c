"""What a chat model is asked: the primer's exams, ARC, MMLU, GSM8K and HumanEval, all as problems of one shape.

A task is a name, a way to answer, and problems that know whether an answer is right. One more task is one more
function in `TASKS`.
"""

import difflib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from string import ascii_uppercase
from typing import Any, Literal

from evals.chat import humaneval
from evals.execution import ExecutionUnavailable, containment
from recipes.data.messages import user
from recipes.data.primer.exams import EXAMS, exam, grade
from recipes.data.sources.exams import ARC_CHALLENGE, ARC_EASY, MMLU, render_arc, render_mmlu
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.data.sources.tables import Table
from recipes.data.sources.talk import HUMANEVAL
from recipes.errors import InputError
from recipes.numbers import ends_in_number
from tokenizer.chat import Message

SHUFFLE_SEED = 1337  # of the rows, before the first so many are taken
CHAT_CORE = ("arc_easy", "arc_challenge", "mmlu", "gsm8k", "humaneval")


@dataclass(frozen=True)
class Problem:
    """A conversation up to where the assistant answers, and what is known of the answer."""

    messages: list[Message]
    answer: str  # a right one, for people to read
    grade: Callable[[str], str]  # of a reply's last message, after all calls of tools: "right", or what it is instead
    letters: Sequence[str] = ()  # on offer, where the answer is one of them

    def is_right(self, reply: str) -> bool:
        """Whether a reply's last message is right."""
        return self.grade(reply) == "right"


@dataclass(frozen=True)
class Task:
    """Problems answered in the same way: by generating text, or by the likeliest letter."""

    name: str
    kind: Literal["generate", "letters"]
    baseline: float  # accuracy of guessing
    problems: list[Problem]
    max_new_tokens: int = 256  # of one answer, unless told otherwise
    note: str = ""  # what to know before it begins


def open_task(spec: str, max_problems: int | None = None) -> Task:
    """The task that `spec` names: `mmlu`, or `mmlu:PATH` for local files in the Hub's layout.

    With `max_problems`, that many of its problems: always the same ones. Raises `InputError` for an unknown task,
    and for files that are missing or not what the task needs.
    """
    name, _, path = spec.partition(":")
    if name not in TASKS:
        closest = difflib.get_close_matches(name, TASKS, n=1)
        remedy = f"did you mean {closest[0]}?" if closest else f"known are {', '.join(TASKS)}."
        raise InputError(f"unknown task {name!r}: {remedy}")
    if path and name in PRIMER_TASKS:
        raise InputError(f"task {spec}: {name} is generated and read from no file: leave out the path.")
    task = TASKS[name](path or None, max_problems)
    if not task.problems:
        raise InputError(f"task {spec} holds no problems.")
    return task


def draw(rows: Sequence[Any], max_problems: int | None) -> list[tuple[int, Any]]:
    """`max_problems` of the rows with their numbers: the first ones after a shuffle that is always the same."""
    order = list(range(len(rows)))
    random.Random(SHUFFLE_SEED).shuffle(order)
    return [(number, rows[number]) for number in order[:max_problems]]


def right_if(holds: Callable[[str], bool]) -> Callable[[str], str]:
    """A problem's `grade` where there is no more to say than right or wrong."""
    return lambda reply: "right" if holds(reply) else "wrong"


# The primer's


def open_primer_exam(name: str, path: None, max_problems: int | None) -> Task:
    """One of the primer's held-out exams."""
    items = [item for _, item in draw(exam(name), max_problems)]
    problems = [Problem(item.messages, item.answer, right_if(partial(grade, item))) for item in items]
    return Task(name, "generate", 0.25 if name == "choice" else 0.0, problems)


# Multiple choice


def open_exam(
    table: Table, render: Callable[[dict[str, Any]], list[Message]], path: str | None, max_problems: int | None
) -> Task:
    """The test split of a table of multiple choice, each question as the conversations to train on put it."""
    problems = []
    for number, row in draw(table.open(path, "test"), max_problems):
        try:
            question, answer = render(row)
        except InputError as error:
            raise InputError(f"{table.name}, test row {number}: {error}") from None
        choices = row["choices"]["text"] if isinstance(row["choices"], dict) else row["choices"]
        problems.append(choice_problem([question], answer["content"], ascii_uppercase[: len(choices)]))
    return Task(table.name, "letters", 0.25, problems)


def choice_problem(messages: list[Message], answer: str, letters: Sequence[str]) -> Problem:
    """A question whose answer is one of `letters`."""
    return Problem(messages, answer, right_if(partial(eq, answer)), letters)


# Numbers


def open_gsm8k(path: str | None, max_problems: int | None) -> Task:
    """GSM8K's test split."""
    rows = draw(gsm8k_problems(path, "test"), max_problems)
    problems = [number_problem(row["question"], row["answer"]) for _, row in rows]
    return Task("gsm8k", "generate", 0.0, problems)


def number_problem(question: str, answer: str) -> Problem:
    """A question whose answer is a number, such as GSM8K's and the primer's word problems."""
    return Problem([user(question)], answer, right_if(partial(ends_in_number, answer)))


# Programs


def open_humaneval(path: str | None, max_problems: int | None) -> Task:
    """HumanEval's 164 functions. Raises `InputError` where programs cannot be run."""
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


PRIMER_TASKS = tuple(EXAMS)
TASKS: dict[str, Callable[[str | None, int | None], Task]] = {
    **{name: partial(open_primer_exam, name) for name in PRIMER_TASKS},
    "arc_easy": partial(open_exam, ARC_EASY, render_arc),
    "arc_challenge": partial(open_exam, ARC_CHALLENGE, render_arc),
    "mmlu": partial(open_exam, MMLU, render_mmlu),
    "gsm8k": open_gsm8k,
    "humaneval": open_humaneval,
}
