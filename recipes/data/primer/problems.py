"""Word problems with a checkable answer, solved by one call of the calculator for each step.

One pair of numbers in ten is held out from all training, and of the stories of two and three steps one way to tell
each, so a model can be asked about numbers, and in words, that it has never seen.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from recipes.data.messages import assistant, calculator_call, user
from recipes.data.primer.longer_stories import THREE_STEP_STORIES, TWO_STEP_STORIES
from recipes.data.primer.one_step_stories import (
    ADDITION_STORIES,
    DIVISION_STORIES,
    MULTIPLICATION_STORIES,
    SUBTRACTION_STORIES,
)
from recipes.data.primer.reckoning import is_reserved
from recipes.data.primer.stories import draw_cast
from recipes.data.primer.world_tables import Row
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError
from tokenizer.chat import Message

LARGEST_RESULT = 999
LARGEST_DIVIDEND = 144
THINGS = (
    *("apple", "book", "marble", "coin", "pencil", "shell", "cookie", "stamp"),
    *("card", "flower", "button", "lemon", "orange", "spoon", "cup", "hat"),
)
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
}


@dataclass(frozen=True)
class Problem:
    """A word problem, its answer, and the expressions to compute one after the other, results put in as numbers."""

    question: str
    answer: str
    steps: int
    expressions: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """A kind of word problem: its steps, such as ("a+b", "x-c"), and the ways to tell it.

    a to d are the numbers given; x, y and z are the results of the first, second and third step.
    """

    steps: tuple[str, ...]
    tellings: tuple[str, ...]

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Letters of the numbers given."""
        return tuple(sorted({letter for step in self.steps for letter in step if letter in "abcd"}))

    def draw_telling(self, rng: Random, split: str) -> str:
        """A way to tell the story in this split; see `problems`."""
        if len(self.steps) == 1:
            return rng.choice(self.tellings)
        told = {"shown": self.tellings[:-2], "train": self.tellings[:-1], "validation": self.tellings[-1:]}
        return rng.choice(told[split])


def read_stories(text: str) -> tuple[Story, ...]:
    """Stories written as text: an empty line between them, the steps in the first line, then a telling a line.

    The tellings of each story are turned one further than those of the story before: which of them come last, and so
    are held out, goes round, and no style of telling is unknown for being always the last.
    """
    stories = []
    for number, block in enumerate(text.strip().split("\n\n")):
        steps, *tellings = block.splitlines()
        turn = number % len(tellings)
        stories.append(Story(tuple(steps.split()), (*tellings[turn:], *tellings[:turn])))
    return tuple(stories)


# For each number of steps, groups that are drawn equally often, however many stories they have.
STORIES: dict[int, tuple[tuple[Story, ...], ...]] = {
    1: tuple(map(read_stories, (ADDITION_STORIES, SUBTRACTION_STORIES, MULTIPLICATION_STORIES, DIVISION_STORIES))),
    2: (read_stories(TWO_STEP_STORIES),),
    3: (read_stories(THREE_STEP_STORIES),),
}


# Drawing problems


SPLITS = ("shown", "train", "validation")


def problems(split: str, steps: int, count: int, seed: int = 0) -> list[Problem]:
    """`count` different problems of so many steps (1 to 3); equal seeds give equal problems.

    shown: as conversations tell and solve them. train: told in more ways, for training by reward alone. validation:
    with numbers that neither of them uses and, where there is more than one step, told in words that neither uses.
    Raises InputError for another split or number of steps.
    """
    if split not in SPLITS:
        raise InputError(f"primer problems: no split {split!r}. Use one of {', '.join(SPLITS)}.")
    if steps not in STORIES:
        raise InputError(f"primer problems: none of {steps} steps. Use 1, 2 or 3.")
    rng = Random(f"{seed} {split} problems of {steps}")
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        problem = draw_problem(rng, steps, split)
        drawn.setdefault(problem.question, problem)
    return list(drawn.values())


def draw_problem(rng: Random, steps: int, split: str = "shown") -> Problem:
    """A problem of so many steps out of one of the splits of `problems`."""
    story = rng.choice(rng.choice(STORIES[steps]))
    telling = story.draw_telling(rng, split)
    while True:
        numbers = {letter: _draw_number(rng) for letter in story.given}
        if story.steps[0] == "a/b":
            numbers["a"] = numbers["b"] * _draw_number(rng)
        worked = _work(story, telling, numbers)
        if worked and any(map(has_reserved_numbers, worked[0])) == (split == "validation"):
            expressions, answer = worked
            return Problem(_tell(telling, numbers, rng), str(answer), steps, expressions)


def has_reserved_numbers(expression: str) -> bool:
    """Whether an expression such as `27+45` stands on a pair of numbers, in either order, that is held out."""
    a, sign, b = _parts(expression)
    return is_reserved(f"{a} {sign} {b}") or is_reserved(f"{b} {sign} {a}")


def _draw_number(rng: Random) -> int:
    """A number from 2 to 99, half of them up to 20."""
    return rng.randint(2, rng.choice((20, 99)))


def _work(story: Story, telling: str, numbers: dict[str, int]) -> tuple[tuple[str, ...], int] | None:
    """The expressions with their numbers, and the last result; None where a result is not a sensible number."""
    known, expressions, result = dict(numbers), [], 0
    for step, name in zip(story.steps, "xyz", strict=False):
        left, sign, right = _parts(step)
        if sign in "+*" and left in numbers and right in numbers:
            # Written in the order in which they are told: nothing to learn but to copy them.
            left, right = sorted((left, right), key=lambda letter: telling.index(f"{{{letter}}}"))
        a, b = known[left], known[right]
        if sign == "/" and (a % b or a == b or a > LARGEST_DIVIDEND):
            return None
        result = known[name] = OPERATIONS[sign](a, b)
        if not 1 <= result <= LARGEST_RESULT:
            return None
        expressions.append(f"{a}{sign}{b}")
    return tuple(expressions), result


def _parts(expression: str) -> tuple[str, str, str]:
    """Left side, sign and right side of an expression of one operation."""
    left, sign, right = re.split(r"([-+*/])", expression)
    return left, sign, right


def _tell(telling: str, numbers: dict[str, int], rng: Random) -> str:
    """The story with its people, things and numbers; every sentence begins with a capital letter."""
    thing = rng.choice(THINGS)
    cast: Row = draw_cast(rng) | {"thing": thing, "things": f"{thing}s"}
    text = telling.format_map(cast | {letter: str(number) for letter, number in numbers.items()})
    return re.sub(r"(?:^|[.?] )[a-z]", lambda start: start[0].upper(), text)


# Solving problems


def compute(expressions: Sequence[str]) -> list[Message]:
    """What the assistant does: one call of the calculator a step, at once and without words, then the last result."""
    calls = [message for each in expressions for message in calculator_call("", each, calculator(each))]
    return [*calls, assistant(f"The answer is {calls[-1]['content']}.")]


def solution_messages(problem: Problem) -> list[Message]:
    """What the assistant does to solve the problem."""
    return compute(problem.expressions)


def problem_conversation(problem: Problem) -> list[Message]:
    """The question and its solution."""
    return [user(problem.question), *solution_messages(problem)]
