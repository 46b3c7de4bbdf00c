"""Sentences that are computed, not looked up in tables: arithmetic, equations, letters, comparisons."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from zlib import crc32

from recipes.data.primer.everyday_tables import NUMBER_WORDS, SIZES, SPEEDS, SPELLING_WORDS


def is_reserved(problem: str) -> bool:
    """Whether a problem such as `5*x + 3 = 13` or `27 + 45` is held out from every document: one in twenty is.

    So a model can be tested with pairs of numbers that it has never seen.
    """
    return crc32(problem.encode()) % 20 == 0


@dataclass(frozen=True)
class Equation:
    """a*x + b = c with whole numbers: a from 2 to 9, b from 1 to 10, x from 1 to 10."""

    a: int
    b: int
    x: int

    @property
    def values(self) -> dict[str, int]:
        """Values that a template can use: a, b, c, x and product = a*x."""
        product = self.a * self.x
        return {"a": self.a, "b": self.b, "x": self.x, "product": product, "c": product + self.b}

    def __str__(self) -> str:
        return "{a}*x + {b} = {c}".format_map(self.values)


EQUATIONS = tuple(Equation(a, b, x) for a in range(2, 10) for b in range(1, 11) for x in range(1, 11))
TRAINING_EQUATIONS = tuple(equation for equation in EQUATIONS if not is_reserved(str(equation)))

EQUATION_PHRASINGS = (
    "If {a}*x + {b} = {c}, then x is {x}.",
    "If {a}*x + {b} = {c}, then x = {x}.",
    "When {a}*x + {b} = {c}, x is {x}.",
    "From {a}*x + {b} = {c} it follows that x is {x}.",
    "The solution of {a}*x + {b} = {c} is x = {x}.",
    "Solve {a}*x + {b} = {c} for x. The answer is x = {x}.",
    "What is x if {a}*x + {b} = {c}? Here x is {x}.",
    "Because {a}*{x} + {b} = {c}, the solution of {a}*x + {b} = {c} is x = {x}.",
)
WORKED_EQUATIONS = (
    "If {a}*x + {b} = {c}, then {a}*x = {product}, so x is {x}.",
    "We know that {a}*x + {b} = {c}. Then {a}*x = {product}. So x is {x}.",
    "To solve {a}*x + {b} = {c}, subtract {b} to get {a}*x = {product}, then divide by {a}. So x is {x}.",
    "Let {a}*x + {b} = {c}. Take away {b}: {a}*x = {product}. Divide by {a}: x = {x}. Check: {a}*{x} + {b} = {c}.",
    "Solve {a}*x + {b} = {c}. First step: {a}*x = {product}. Second step: x = {x}.",
    "If {a}*x = {product}, then x is {x}. If {a}*x + {b} = {c}, then x is {x}, too.",
)


def tell_equation(equation: Equation, rng: Random) -> str:
    """The equation and its solution in one sentence; half of the time in the plainest phrasing."""
    template = EQUATION_PHRASINGS[0] if rng.random() < 0.5 else rng.choice(EQUATION_PHRASINGS)
    return template.format_map(equation.values)


def work_equation(equation: Equation, rng: Random) -> str:
    """The equation solved step by step."""
    return rng.choice(WORKED_EQUATIONS).format_map(equation.values)


@dataclass(frozen=True)
class Operation:
    """One of the four operations: its sign, its function, and phrasings of `a sign b = c`."""

    sign: str
    compute: Callable[[int, int], int]
    phrasings: tuple[str, ...]

    def tell(self, a: int, b: int, rng: Random) -> str:
        """A sentence that states the result of the operation on a and b."""
        template = self.phrasings[0] if rng.random() < 0.4 else rng.choice(self.phrasings)
        return template.format(a=a, b=b, c=self.compute(a, b))


ADDITION = Operation(
    "+",
    lambda a, b: a + b,
    (
        "{a} + {b} = {c}.",
        "{a} plus {b} is {c}.",
        "{a} plus {b} equals {c}.",
        "The sum of {a} and {b} is {c}.",
        "If you add {a} and {b}, you get {c}.",
        "What is {a} + {b}? It is {c}.",
    ),
)
SUBTRACTION = Operation(
    "-",
    lambda a, b: a - b,
    (
        "{a} - {b} = {c}.",
        "{a} minus {b} is {c}.",
        "{a} minus {b} equals {c}.",
        "The difference of {a} and {b} is {c}.",
        "If you take {b} away from {a}, you get {c}.",
        "What is {a} - {b}? It is {c}.",
    ),
)
MULTIPLICATION = Operation(
    "*",
    lambda a, b: a * b,
    (
        "{a} * {b} = {c}.",
        "{a} times {b} is {c}.",
        "{a} times {b} equals {c}.",
        "The product of {a} and {b} is {c}.",
        "If you multiply {a} by {b}, you get {c}.",
        "What is {a} * {b}? It is {c}.",
    ),
)
DIVISION = Operation(
    "/",
    lambda a, b: a // b,
    (
        "{a} / {b} = {c}.",
        "{a} divided by {b} is {c}.",
        "{a} divided by {b} equals {c}.",
        "If you divide {a} by {b}, you get {c}.",
        "What is {a} / {b}? It is {c}.",
    ),
)


def draw_operands(operation: Operation, rng: Random) -> tuple[int, int]:
    """Two numbers for an operation: times tables up to 12 for * and /; mostly small and never reserved for + and -."""
    if operation in (MULTIPLICATION, DIVISION):
        a, b = rng.randint(1, 12), rng.randint(1, 12)
        return (a * b, b) if operation is DIVISION else (a, b)
    largest = 20 if rng.random() < 0.7 else 99
    a, b = rng.randint(1, largest), rng.randint(1, largest)
    if operation is SUBTRACTION:
        a, b = max(a, b), min(a, b)
    return draw_operands(operation, rng) if is_reserved(f"{a} {operation.sign} {b}") else (a, b)


def tell_sum(operation: Operation, rng: Random) -> str:
    """A true sentence about one operation on two numbers."""
    return operation.tell(*draw_operands(operation, rng), rng)


def tell_number(rng: Random) -> str:
    """A sentence about a small number: its word, its neighbors, its double, or whether it is even."""
    n = rng.randint(1, 19)
    word, parity = NUMBER_WORDS[n], "odd" if n % 2 else "even"
    return rng.choice(
        (
            f"The number {n} is written as {word}.",
            f"{word.capitalize()} is the word for {n}.",
            f"After {n} comes {n + 1}.",
            f"Before {n} comes {n - 1}.",
            f"The number {n} is {parity}.",
            f"Half of {2 * n} is {n}.",
            f"Twice {n} is {2 * n}.",
            f"Count on from {n}: {n + 1}, {n + 2}, {n + 3}.",
        )
    )


def tell_comparison(rng: Random) -> str:
    """A sentence that compares two numbers, two sizes or two speeds."""
    kind = rng.choice(("number", "size", "speed"))
    if kind == "number":
        less, more = sorted(rng.sample(range(1, 100), 2))
        return rng.choice(
            (
                f"{more} is greater than {less}.",
                f"{less} is less than {more}.",
                f"Of {less} and {more}, the greater number is {more}.",
                f"Which is more, {more} or {less}? The answer is {more}.",
            )
        )
    line, low, high = (rng.choice(SIZES), "smaller", "bigger") if kind == "size" else (SPEEDS, "slower", "faster")
    less, more = (line[index] for index in sorted(rng.sample(range(len(line)), 2)))
    return rng.choice(
        (
            f"{more[0].upper()}{more[1:]} is {high} than {less}.",
            f"{less[0].upper()}{less[1:]} is {low} than {more}.",
            f"Which is {high}, {less} or {more}? It is {more}.",
            f"Which is {low}, {less} or {more}? It is {less}.",
        )
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tell_spelling(rng: Random) -> str:
    """A sentence about the letters of a word: its spelling, its length, its first or last letter, or a count."""
    word = rng.choice(SPELLING_WORDS)
    letter = rng.choice(word)
    times = _count(word.count(letter), "time")
    return rng.choice(
        (
            f"The word {word} is spelled {'-'.join(word)}.",
            f"How do you spell {word}? You spell it {'-'.join(word)}.",
            f"The letters {'-'.join(word)} spell {word}.",
            f"The word {word} has {len(word)} letters.",
            f"The letters of {word} are {', '.join(word)}. There are {len(word)} letters in {word}.",
            f"The first letter of {word} is {word[0]}.",
            f"The last letter of {word} is {word[-1]}.",
            f"The word {word} begins with {word[0]} and ends with {word[-1]}.",
            f"The letter {letter} appears {times} in {word}.",
            f"In {word}, spelled {'-'.join(word)}, the letter {letter} appears {times}.",
        )
    )


def tell_alphabet(rng: Random) -> str:
    """A sentence about the order of the letters."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    index = rng.randint(1, 24)
    letter = alphabet[index]
    return rng.choice(
        (
            f"In the alphabet, the letter {letter} comes after {alphabet[index - 1]}.",
            f"After the letter {letter} comes {alphabet[index + 1]}.",
            f"Before the letter {letter} comes {alphabet[index - 1]}.",
            f"The letter {letter} is letter number {index + 1} of the alphabet.",
            f"The alphabet begins with {', '.join(alphabet[: index + 1])}.",
        )
    )


WORD_PROBLEMS = (
    (ADDITION, "{name} has {a_things} and gets {b} more. {a} + {b} = {c}, so {name} now has {c_things}."),
    (ADDITION, "There are {a_things} on the table, and {name} brings {b} more. That makes {a} + {b} = {c}."),
    (SUBTRACTION, "{name} has {a_things} and gives away {b}. {a} - {b} = {c}, so {name} has {c_things} left."),
    (SUBTRACTION, "Of {a_things}, {name} loses {b}. How many are left? {a} - {b} = {c}, so the answer is {c}."),
    (MULTIPLICATION, "{name} fills {a_boxes} with {b_things} each. {a} * {b} = {c}, so {name} needs {c_things}."),
    (DIVISION, "{name} shares {a_things} equally among {b_children}. {a} / {b} = {c}, so each child gets {c_things}."),
)


def tell_word_problem(name: str, rng: Random) -> str:
    """A very short story about a person, with a calculation and its result."""
    thing = rng.choice(("apple", "book", "marble", "coin", "pencil", "shell", "cookie", "stamp", "card", "flower"))
    operation, template = rng.choice(WORD_PROBLEMS)
    a, b = draw_operands(operation, rng)
    c = operation.compute(a, b)
    return template.format(
        name=name,
        a=a,
        b=b,
        c=c,
        a_things=_count(a, thing),
        b_things=_count(b, thing),
        c_things=_count(c, thing),
        a_boxes="1 box" if a == 1 else f"{a} boxes",
        b_children="1 child" if b == 1 else f"{b} children",
    )
