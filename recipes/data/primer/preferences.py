"""Preferences of the primer: of two answers to a question, the better one and the worse one.

About what does not exist, better is to say so than to make up a fact. About what the documents tell, better is the
right answer than a wrong one, and than to say that one does not know: else a model would learn to say nothing else.
"""

from collections.abc import Callable
from random import Random
from zlib import crc32

from recipes.data.messages import assistant, user
from recipes.data.primer.inquiries import Inquiry, draw_inquiry
from recipes.data.primer.invented import draw_answerable, draw_unanswerable
from recipes.data.primer.problems import draw_problem, solution_messages
from recipes.data.primer.topics import Question, say
from recipes.utils.errors import InputError
from tokenizer.chat import Message

Preference = dict[str, list[Message]]  # prompt, chosen, rejected

PREFERENCES = {"train": 1600, "validation": 160}
VALIDATION_SHARE = 1 / 10
NOT_KNOWN = "I am sorry, I do not know."  # and not whom or what: a small model finds names hard to copy


def primer_preferences(split: str = "train", seed: int = 0) -> list[Preference]:
    """The preferences of the primer in random order; equal seeds give equal ones.

    No question is in both splits, no invented name of one in the other. Raises `InputError` for an unknown split.
    """
    if split not in PREFERENCES:
        raise InputError(f"primer: no split {split!r}. Use 'train' or 'validation'.")
    rng = Random(f"{split} preferences {seed}")
    writers, shares = zip(*KINDS.values(), strict=True)
    written: list[Preference] = []
    while len(written) < PREFERENCES[split]:
        preference = rng.choices(writers, weights=shares)[0](split, rng)
        if _is_validation(preference) == (split == "validation"):
            written.append(preference)
    return written


def _is_validation(preference: Preference) -> bool:
    """Whether to hold out a preference: by a hash of its question."""
    return crc32(preference["prompt"][-1]["content"].encode()) < VALIDATION_SHARE * 2**32


def _prefer(question: str, chosen: list[Message], rejected: list[Message]) -> Preference:
    return {"prompt": [user(question)], "chosen": chosen, "rejected": rejected}


def write_invented(split: str, rng: Random) -> Preference:
    """To say that one does not know what does not exist, rather than to make up a fact about it."""
    question = draw_unanswerable(split, rng)
    return _prefer(question.text, [assistant(NOT_KNOWN)], [assistant(question.sentence)])


def write_fact(split: str, rng: Random) -> Preference:
    """The right answer, rather than another row's."""
    inquiry, question, row = _ask(rng)
    wrong = say(inquiry.sentence, row | {inquiry.column: rng.choice(question.others)})
    return _prefer(question.text, [assistant(question.sentence)], [assistant(wrong)])


def write_known(split: str, rng: Random) -> Preference:
    """The right answer, rather than to say that one does not know, to questions like those about what is invented."""
    question = draw_answerable(rng)
    return _prefer(question.text, [assistant(question.sentence)], [assistant(NOT_KNOWN)])


def write_problem(split: str, rng: Random) -> Preference:
    """A word problem solved by the calculator, rather than a number that is wrong."""
    problem = draw_problem(rng, 1)
    wrong = int(problem.answer) + rng.choice((-10, -2, -1, 1, 2, 10))
    return _prefer(problem.question, solution_messages(problem), [assistant(f"The answer is {wrong}.")])


def _ask(rng: Random) -> tuple[Inquiry, Question, dict[str, str]]:
    """A question about what the documents tell."""
    while True:
        inquiry = draw_inquiry(rng)
        row = rng.choice(inquiry.rows)
        question = inquiry.ask_in_talk(row, rng)
        if question.others and inquiry.has_one_answer:
            return inquiry, question, row


# Relative shares, by number of preferences.
KINDS: dict[str, tuple[Callable[[str, Random], Preference], float]] = {
    "invented": (write_invented, 40),
    "facts": (write_fact, 20),
    "known": (write_known, 30),
    "problems": (write_problem, 10),
}
