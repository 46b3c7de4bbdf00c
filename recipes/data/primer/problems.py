"""Word problems with a checkable answer, solved by one calculator call per step.

One pair of numbers in ten is held out from all training, and so is one phrasing of each story of two or three steps.
So a model can be tested with numbers and in phrasings that it has never seen.
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
STYLES = 4  # phrasings of a story of which one is held out and one is left to GRPO
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
    """A word problem, its answer, and the expressions to compute in order, with earlier results filled in.

    kind names the sort of problem, its steps and its phrasing: `story 2, a+b x-c, {name} has {a} ...`. Problems of one
    kind differ in numbers, people and things alone.
    """

    question: str
    answer: str
    steps: int
    expressions: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Story:
    """A kind of word problem: its steps, such as ("a+b", "x-c"), and its phrasings.

    a to d are the given numbers; x, y and z are the results of the first, second and third step.
    """

    steps: tuple[str, ...]
    phrasings: tuple[str, ...]

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Letters of the given numbers."""
        return tuple(sorted({letter for step in self.steps for letter in step if letter in "abcd"}))

    def draw_phrasing(self, rng: Random, split: str) -> str:
        """A random phrasing that this split may use (see `problems`)."""
        if len(self.steps) == 1:
            return rng.choice(self.phrasings)
        used = {"shown": self.phrasings[:-2], "train": self.phrasings[:-1], "validation": self.phrasings[-1:]}
        return rng.choice(used[split])


def read_stories(text: str) -> tuple[Story, ...]:
    """Parse stories: blocks separated by an empty line, with the steps in the first line and one phrasing per line.

    Each story's first four phrasings, its styles, are rotated by one more than the story's before and put last, so
    that a different style is held out from story to story.
    """
    stories = []
    for number, block in enumerate(text.strip().split("\n\n")):
        steps, *phrasings = block.splitlines()
        styles, further = phrasings[:STYLES], phrasings[STYLES:]
        turn = number % STYLES
        stories.append(Story(tuple(steps.split()), (*further, *styles[turn:], *styles[:turn])))
    return tuple(stories)


# Groups of stories for each number of steps. Groups are drawn equally often, whatever their size.
STORIES: dict[int, tuple[tuple[Story, ...], ...]] = {
    1: tuple(map(read_stories, (ADDITION_STORIES, SUBTRACTION_STORIES, MULTIPLICATION_STORIES, DIVISION_STORIES))),
    2: (read_stories(TWO_STEP_STORIES),),
    3: (read_stories(THREE_STEP_STORIES),),
}


# Drawing problems


SPLITS = ("shown", "train", "validation")


def problems(split: str, steps: int, count: int, seed: int = 0) -> list[Problem]:
    """`count` different problems of `steps` steps (1 to 3); equal seeds give equal problems.

    shown: in the phrasings that conversations use. train: in one more phrasing, for GRPO, which needs no solutions.
    validation: with numbers that neither of them uses and, for two or three steps, in a phrasing that neither uses.
    Raises `InputError` for another split or number of steps.
    """
    if split not in SPLITS:
        raise InputError(f"primer problems: no split {split!r}. Use one of {', '.join(SPLITS)}.")
    if steps not in STORIES:
        raise InputError(f"primer problems: none of {steps} steps. Use 1, 2 or 3.")
    rng = Random(f"{seed} {split} problems of {steps}")
    return draw_different(lambda: draw_problem(rng, steps, split), count)


def draw_different(draw: Callable[[], Problem], count: int) -> list[Problem]:
    """`count` problems by `draw`, no two of which ask the same."""
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        problem = draw()
        drawn.setdefault(problem.question, problem)
    return list(drawn.values())


def draw_problem(rng: Random, steps: int, split: str = "shown") -> Problem:
    """A random problem of `steps` steps from one of the splits of `problems`."""
    story = rng.choice(rng.choice(STORIES[steps]))
    phrasing = story.draw_phrasing(rng, split)
    return ask(story, phrasing, rng, held_out=split == "validation")


def ask(story: Story, phrasing: str, rng: Random, held_out: bool = False, kind: str | None = None) -> Problem:
    """A problem of `story` in the words of `phrasing`, with random numbers: with a held-out pair, or with none."""
    while True:
        numbers = {letter: _draw_number(rng) for letter in story.given}
        if story.steps[0] == "a/b":
            numbers["a"] = numbers["b"] * _draw_number(rng)
        worked = _work(story, phrasing, numbers)
        if worked and any(map(has_reserved_numbers, worked[0])) == held_out:
            expressions, answer = worked
            kind = kind or f"story {len(story.steps)}, {' '.join(story.steps)}, {phrasing}"
            return Problem(fill(phrasing, numbers, rng), str(answer), len(story.steps), expressions, kind)


def has_reserved_numbers(expression: str) -> bool:
    """Whether the two numbers of an expression such as `27+45` are a held-out pair, in either order."""
    a, sign, b = _parts(expression)
    return is_reserved(f"{a} {sign} {b}") or is_reserved(f"{b} {sign} {a}")


def _draw_number(rng: Random) -> int:
    """A number from 2 to 99; half of the draws are from 2 to 20."""
    return rng.randint(2, rng.choice((20, 99)))


def _work(story: Story, phrasing: str, numbers: dict[str, int]) -> tuple[tuple[str, ...], int] | None:
    """The expressions with numbers filled in, and the last result; None if a result is not a sensible number."""
    known, expressions, result = dict(numbers), [], 0
    for step, name in zip(story.steps, "xyz", strict=False):
        left, sign, right = _parts(step)
        if sign in "+*" and left in numbers and right in numbers:
            # In the order of the text, so that the model only has to copy them.
            left, right = sorted((left, right), key=lambda letter: phrasing.index(f"{{{letter}}}"))
        a, b = known[left], known[right]
        if sign == "/" and (a % b or a == b or a > LARGEST_DIVIDEND):
            return None
        result = known[name] = OPERATIONS[sign](a, b)
        if not 1 <= result <= LARGEST_RESULT:
            return None
        expressions.append(f"{a}{sign}{b}")
    return tuple(expressions), result


def _parts(expression: str) -> tuple[str, str, str]:
    """Left side, sign and right side of an expression with one operation."""
    left, sign, right = re.split(r"([-+*/])", expression)
    return left, sign, right


def fill(phrasing: str, numbers: dict[str, int], rng: Random) -> str:
    """Fill a phrasing with people, things and numbers, and capitalize every sentence."""
    thing = rng.choice(THINGS)
    cast: Row = draw_cast(rng) | {"thing": thing, "things": f"{thing}s"}
    text = phrasing.format_map(cast | {letter: str(number) for letter, number in numbers.items()})
    return re.sub(r"(?:^|[.?] )[a-z]", lambda start: start[0].upper(), text)


# Solving problems


def compute(expressions: Sequence[str]) -> list[Message]:
    """The assistant's messages: one calculator call per expression, without text, then the last result."""
    calls = [message for each in expressions for message in calculator_call("", each, calculator(each))]
    return [*calls, assistant(f"The answer is {calls[-1]['content']}.")]


def solution_messages(problem: Problem) -> list[Message]:
    return compute(problem.expressions)


def problem_conversation(problem: Problem) -> list[Message]:
    return [user(problem.question), *solution_messages(problem)]
