"""Held-out questions with checkable answers: facts in unseen words, problems in unseen words and unseen numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from recipes.data.messages import user
from recipes.data.primer.inquiries import draw_choices, draw_inquiry, offer_choices
from recipes.data.primer.problems import draw_problem
from recipes.data.primer.topics import Question
from recipes.utils.errors import InputError
from recipes.utils.numerals import ends_in_number
from tokenizer.chat import Message

SYMBOLS_AND_WORDS = {"I", "He", "As"}  # "I think it is Na." speaks of no iodine


@dataclass(frozen=True)
class ExamItem:
    """A question to the model, and what its reply is checked by.

    kind: the exam that the item belongs to.
    answer: the right number, or the words of a fact.
    others: answers that are wrong for sure; for a choice, the other choices.
    """

    kind: str
    messages: list[Message]
    answer: str
    others: tuple[str, ...] = ()


def exam(name: str, count: int = 200, seed: int = 0) -> list[ExamItem]:
    """`count` different items of one of `EXAMS`; equal seeds give equal items.

    Raises InputError for an unknown name.
    """
    if name not in EXAMS:
        raise InputError(f"primer exams: no exam {name!r}. Use one of {', '.join(EXAMS)}.")
    rng = Random(f"{seed} exam {name}")
    items: dict[str, ExamItem] = {}
    while len(items) < count:
        item = EXAMS[name](rng)
        items.setdefault(item.messages[-1]["content"], item)
    return list(items.values())


def grade(item: ExamItem, reply: str) -> bool:
    """Whether the text of the reply (of its last message, where a tool was called) is right."""
    if item.kind in ("facts", "choice"):
        return mentions(reply, item.answer) and not any(mentions(reply, other) for other in item.others)
    return ends_in_number(item.answer, reply)


def mentions(text: str, words: str) -> bool:
    """Whether the words stand in the text as whole words; capitals matter only in chemical symbols and the like."""
    flags = re.IGNORECASE if len(words) > 2 else re.NOFLAG
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, flags) is not None


def _draw_question(rng: Random) -> Question:
    """A fact of the documents, asked in words that no conversation uses."""
    while True:
        inquiry = draw_inquiry(rng)
        if inquiry.has_one_answer:
            question = inquiry.ask_in_exam(rng.choice(inquiry.rows), rng)
            if len(question.others) >= 2:
                return question


def _ask_fact(rng: Random) -> ExamItem:
    question = _draw_question(rng)
    # What the right sentence itself mentions is no sign of a wrong reply: Panama in Panama City.
    others = tuple(
        other for other in question.others if other not in SYMBOLS_AND_WORDS and not mentions(question.sentence, other)
    )
    return ExamItem("facts", [user(question.text)], question.answer, others)


def _ask_choice(rng: Random) -> ExamItem:
    question = _draw_question(rng)
    choices = draw_choices(question, 4, rng)
    others = tuple(choice for choice in choices if not mentions(question.sentence, choice))
    return ExamItem("choice", [user(offer_choices(question.text, choices))], question.answer, others)


def _ask_problem(name: str, *steps: int) -> Callable[[Random], ExamItem]:
    def ask(rng: Random) -> ExamItem:
        problem = draw_problem(rng, rng.choice(steps), "validation")
        return ExamItem(name, [user(problem.question)], problem.answer)

    return ask


EXAMS: dict[str, Callable[[Random], ExamItem]] = {
    "facts": _ask_fact,
    "choice": _ask_choice,
    "problems1": _ask_problem("problems1", 1),
    "problems2": _ask_problem("problems2", 2),
    "problems3": _ask_problem("problems3", 3),
    "harder": _ask_problem("harder", 2, 3),
}
