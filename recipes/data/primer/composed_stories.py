"""Word problems put together from beginnings, events and questions: what GRPO tries beside the stories.

A reward needs an answer and no solution in words, so these may be told as no conversation tells them: with other
verbs, the question first, up to four steps, or a number that nothing is done with. Some sequences of steps are held
out from them, and no story has those either: an exam asks what carries over to kinds that nothing was trained on.
"""

from dataclasses import dataclass
from random import Random
from zlib import crc32

from recipes.data.primer.problems import LARGEST_DIVIDEND, LARGEST_RESULT, STORIES, Problem, fill, has_reserved_numbers
from recipes.data.primer.reworded_stories import add_aside
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError

STEPS = {"train": (2, 3, 4), "validation": (3, 4)}  # of a composed problem; stories have all sequences of two


@dataclass(frozen=True)
class Part:
    """A part of a problem: its steps, in which x is what came before, and clauses that tell it after a subject.

    m and n are the numbers that the part gives.
    """

    steps: tuple[str, ...]
    clauses: tuple[str, ...]


BEGINNINGS = (
    Part((), ("has {n} {things}", "starts with {n} {things}", "brings {n} {things} to school")),
    Part(("m*n",), ("has {m} boxes of {n} {things}", "buys {m} bags with {n} {things} in each")),
    Part(("m+n",), ("has {m} old and {n} new {things}", "owns {m} big {things} and {n} small ones")),
)
EVENTS = (
    Part(
        ("x+n",),
        (
            *("buys {n} more", "picks up {n} more", "wins {n} more", "is given {n} more"),
            *("gets {n} more from {other}", "finds {n} more on the way"),
        ),
    ),
    Part(
        ("x-n",),
        (
            *("sells {n} of them", "drops {n} of them", "hands {n} to {other}", "throws {n} away"),
            *("loses {n} on the way", "gives {n} of them to a friend"),
        ),
    ),
    Part(("m*n", "x+y"), ("buys {m} more boxes of {n}", "gets {m} bags with {n} more in each")),
    Part(("m*n", "x-y"), ("hands {n} to each of {m} friends", "sells {n} on each of {m} days")),
)
SHARING = Part(("x/n",), ())  # after all events, by one of these clauses, with a question about one share
SHARES = (
    ("puts all of them into {n} bags, the same number in each", "How many {things} are in a bag?"),
    ("shares all of them equally among {n} children", "How many does each child get?"),
)
QUESTIONS = (
    "How many {things} does {name} have in the end?",
    "How many {things} does {name} have now?",
    "How many are there in the end?",
)
QUESTIONS_FIRST = (
    "How many {things} does {name} have in the end if {he} {clauses}?",
    "Find out how many {things} {name} has if {he} {clauses}.",
)
SHARE_FIRST = "How many {things} are in one share if {name} {clauses}?"


def steps_of(parts: list[Part]) -> tuple[str, ...]:
    """Steps in the letters of the stories: given numbers are a, b, ...; results x, y, ... in order."""
    steps, given, results, before = [], iter("abcdefgh"), iter("xyzw"), "a" if not parts[0].steps else ""
    if before:
        next(given)
    for part in parts:
        own = []
        for step in part.steps:
            left, right = (
                before if side == "x" else own[-1] if side == "y" else next(given) for side in (step[0], step[2])
            )
            steps.append(f"{left}{step[1]}{right}")
            own.append(next(results))
        before = own[-1] if own else before
    return tuple(steps)


TOLD_IN_STORIES = {story.steps for groups in STORIES.values() for group in groups for story in group}


def is_held_out(steps: tuple[str, ...]) -> bool:
    """Whether this sequence of steps is only in exams: one in five of those that no story has."""
    return steps not in TOLD_IN_STORIES and crc32(" ".join(steps).encode()) % 5 == 0


def draw_composed(rng: Random, steps: int, split: str = "train") -> Problem:
    """A random problem with `steps` steps (see `STEPS`).

    Split `validation` has held-out sequences of steps and a held-out pair of numbers, `train` neither.
    """
    if steps not in STEPS[split]:
        raise InputError(f"composed problems: none of {steps} steps for {split}.")
    while True:
        parts = [rng.choice(BEGINNINGS)]
        while (count := sum(len(part.steps) for part in parts)) < steps and parts[-1] is not SHARING:
            parts.append(_draw_event(rng, last=count == steps - 1))
        order = steps_of(parts) if count == steps else ()
        if not order or is_held_out(order) != (split == "validation"):
            continue
        worked = _draw_numbers(parts, rng)
        if worked and any(map(has_reserved_numbers, worked[1])) == (split == "validation"):
            numbers, expressions = worked
            form = rng.choice(("sentences", "joined", "question first"))
            aside = rng.random() < 0.2
            text = _tell(parts, numbers, form, rng)
            question = fill(add_aside(text, rng) if aside else text, {}, rng)
            kind = f"composed {steps}, {' '.join(order)}, {form}{', aside' if aside else ''}"
            return Problem(question, calculator(expressions[-1]), steps, expressions, kind)


def _draw_event(rng: Random, last: bool) -> Part:
    """More and fewer by one step most of the time; a share only at the end."""
    return SHARING if last and rng.random() < 0.2 else rng.choices(EVENTS, (3, 3, 2, 2))[0]


def _draw_numbers(parts: list[Part], rng: Random) -> tuple[list[dict[str, int]], tuple[str, ...]] | None:
    """Numbers m and n of each part, and the expressions; None if a result is not a sensible number."""
    amount, numbers, expressions = 0, [], []
    for part in parts:
        small = any("*" in step for step in part.steps)
        given = {letter: rng.randint(2, 12 if small else rng.choice((20, 99))) for letter in "mn"}
        if part is SHARING:
            divisors = [n for n in range(2, 13) if amount % n == 0 and n < amount <= LARGEST_DIVIDEND]
            if not divisors:
                return None
            given["n"] = rng.choice(divisors)
        results = []
        for step in part.steps:
            values = given | {"x": amount, "y": results[-1] if results else 0}
            expressions.append(f"{values[step[0]]}{step[1]}{values[step[2]]}")
            results.append(int(calculator(expressions[-1])))
            if not 1 <= results[-1] <= LARGEST_RESULT:
                return None
        amount = results[-1] if results else given["n"]
        numbers.append(given)
    return numbers, tuple(expressions)


def _tell(parts: list[Part], numbers: list[dict[str, int]], form: str, rng: Random) -> str:
    """The problem in words, with places for people and things."""
    share = rng.choice(SHARES) if parts[-1] is SHARING else None
    told = [rng.choice(part.clauses) for part in parts if part is not SHARING] + ([share[0]] if share else [])
    clauses = [
        clause.replace("{m}", str(given["m"])).replace("{n}", str(given["n"]))
        for clause, given in zip(told, numbers, strict=True)
    ]
    joined = f"{', '.join(clauses[:-1])} and {clauses[-1]}"
    question = share[1] if share else rng.choice(QUESTIONS)
    if form == "question first":
        text = (SHARE_FIRST if share else rng.choice(QUESTIONS_FIRST)).replace("{clauses}", joined)
    elif form == "joined":
        text = f"{{name}} {joined}. {question}"
    else:
        first, *later = clauses
        starts = ("{he} ", "then {he} ", "after that, {he} ")
        text = " ".join([f"{{name}} {first}.", *(f"{rng.choice(starts)}{clause}." for clause in later), question])
    return text
