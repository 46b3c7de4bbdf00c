"""Texts answered out of themselves: dictations and small questions of who has what, as documents and conversations.

What they teach is to copy from the context, which facts learnt by heart never need, and on which word problems rest. A
small model learns it from many tokens to copy in a row far sooner than from the two or three of a word problem.
"""

from random import Random

from recipes.data.messages import assistant, user
from recipes.data.primer.everyday_tables import PEOPLE, SPELLING_WORDS
from tokenizer.chat import Message

THINGS = ("apples", "books", "marbles", "coins", "pencils", "shells", "cookies", "stamps", "cards", "lemons", "hats")
DICTATIONS = (
    "{name} says: {text}. {other} writes: {text}.",
    "The teacher reads: {text}. The children repeat: {text}.",
    "{name} wrote a list: {text}. {other} copied it: {text}.",
    "Say it twice: {text}, and again: {text}.",
)
WISHES = ("Repeat: {}", "Say this again: {}", "Repeat after me: {}")


def draw_items(rng: Random, longest: int) -> str:
    """Words and numbers in a row, 3 to `longest` of them."""
    items = [
        str(rng.randint(2, 99)) if rng.random() < 0.4 else rng.choice(SPELLING_WORDS)
        for _ in range(rng.randint(3, longest))
    ]
    return rng.choice((" ", ", ")).join(items)


def draw_question(rng: Random) -> tuple[str, str]:
    """Who has how many of what, with a question about one of them; and its answer, a sentence that stands there."""
    people, things = rng.sample(PEOPLE, rng.randint(2, 4)), rng.sample(THINGS, 4)
    has = [f"{who['name']} has {rng.randint(2, 99)} {thing}" for who, thing in zip(people, things, strict=False)]
    asked = rng.choice(has)
    name, _, _, thing = asked.split()
    return f"{'. '.join(has)}. How many {thing} does {name} have?", f"{asked}."


# Documents


def write_dictation(rng: Random) -> str:
    """Some words and numbers, each row of them twice."""
    lines = []
    for _ in range(rng.randint(1, 4)):
        name, other = (person["name"] for person in rng.sample(PEOPLE, 2))
        lines.append(rng.choice(DICTATIONS).format(name=name, other=other, text=draw_items(rng, 16)))
    return "\n".join(lines)


def write_reading(rng: Random) -> str:
    """A few questions with their answers."""
    return "\n".join(" ".join(draw_question(rng)) for _ in range(rng.randint(2, 6)))


# Conversations


def talk_of_repetition(rng: Random) -> list[Message]:
    """Words and numbers to be said again."""
    text = draw_items(rng, 12)
    return [user(rng.choice(WISHES).format(text)), assistant(text)]


def talk_of_reading(rng: Random) -> list[Message]:
    """A question about what has just been told."""
    question, answer = draw_question(rng)
    return [user(question), assistant(answer)]
