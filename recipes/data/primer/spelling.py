"""Spelling: words letter by letter, and how often a letter occurs in them, counted by the calculator."""

from collections.abc import Iterator
from itertools import cycle
from string import ascii_lowercase

from recipes.data.messages import assistant, calculator_call, user
from recipes.data.primer.everyday_tables import SPELLING_WORDS
from recipes.data.splits import document_hash
from recipes.utils.calculator import calculator
from tokenizer.chat import Message

HELD_OUT = 10  # one word in 10 is held out
SPELL = (
    "Spell the word {word}.",
    "How do you spell {word}?",
    "Spell {word} letter by letter.",
    "What letters is the word {word} made of?",
    "Can you spell {word} for me?",
    "Please spell: {word}",
)
COUNT = (
    "How many times does the letter {letter} occur in {word}?",
    "How many {letter} are in {word}?",
    "How many {letter}'s are there in the word {word}?",
    "Count the letter {letter} in {word}.",
    "How often does {letter} appear in {word}?",
    "In the word {word}, how many times do you see the letter {letter}?",
)


def spelling_conversations(split: str = "train") -> Iterator[list[Message]]:
    """Every word spelled in every phrasing, and each of its letters counted. One word in ten is held out."""
    counting = cycle(COUNT)
    for word in SPELLING_WORDS:
        if (document_hash(word) % HELD_OUT == 0) == (split == "train"):
            continue
        for phrasing in SPELL:
            yield [user(phrasing.format(word=word)), assistant(f"{spelled(word)}.")]
        absent = ascii_lowercase[document_hash(word) % 26]
        for letter in sorted({*word, absent}):
            for phrasing in (next(counting), next(counting)):
                yield [user(phrasing.format(word=word, letter=letter)), *count_letter(word, letter)]


def spelled(word: str) -> str:
    return f"The word {word} is spelled {'-'.join(word)}"


def count_letter(word: str, letter: str) -> list[Message]:
    """The assistant spells the word, counts the letter with the calculator, and says how often it occurs."""
    expression = f"'{word}'.count('{letter}')"
    result = calculator(expression)
    times = "1 time" if result == "1" else f"{result} times"
    call = calculator_call(f"{spelled(word)}. Counting {letter}: ", expression, result)
    return [*call, assistant(f"{result}. The letter {letter} occurs {times} in {word}.")]
