"""Texts that contain their own answers: dictations, and questions about who has what; documents and conversations.

They teach the model to copy from its context, which memorized facts never need and word problems rely on. A small
model learns copying far sooner from long runs of tokens than from the two or three numbers of a word problem.
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
    """A list of 3 to `longest` words and numbers."""
    items = [
        str(rng.randint(2, 99)) if rng.random() < 0.4 else rng.choice(SPELLING_WORDS)
        for _ in range(rng.randint(3, longest))
    ]
    return rng.choice((" ", ", ")).join(items)


def draw_question(rng: Random) -> tuple[str, str]:
    """Sentences about who has how many of what with a question about one of them; and that sentence, the answer."""
    people, things = rng.sample(PEOPLE, rng.randint(2, 4)), rng.sample(THINGS, 4)
    has = [f"{who['name']} has {rng.randint(2, 99)} {thing}" for who, thing in zip(people, things, strict=False)]
    asked = rng.choice(has)
    name, _, _, thing = asked.split()
    return f"{'. '.join(has)}. How many {thing} does {name} have?", f"{asked}."


# Documents


def write_dictation(rng: Random) -> str:
    """Up to four lists of words and numbers, each written twice."""
    lines = []
    for _ in range(rng.randint(1, 4)):
        name, other = (person["name"] for person in rng.sample(PEOPLE, 2))
        lines.append(rng.choice(DICTATIONS).format(name=name, other=other, text=draw_items(rng, 16)))
    return "\n".join(lines)


def write_reading(rng: Random) -> str:
    """A few texts with a question, each followed by the answer."""
    return "\n".join(" ".join(draw_question(rng)) for _ in range(rng.randint(2, 6)))


# Conversations


def talk_of_repetition(rng: Random) -> list[Message]:
    """The user asks to repeat words and numbers."""
    text = draw_items(rng, 12)
    return [user(rng.choice(WISHES).format(text)), assistant(text)]


def talk_of_reading(rng: Random) -> list[Message]:
    """The user tells who has what and asks about it."""
    question, answer = draw_question(rng)
    return [user(question), assistant(answer)]
