"""Held-out questions with checkable answers: facts in unseen words, problems in unseen words and unseen numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from recipes.data.messages import render_multiple_choice, user
from recipes.data.primer.inquiries import CHOICE_AND_LETTER, LETTERS, draw_choices, draw_inquiry
from recipes.data.primer.problems import draw_problem, final_answer, same_number
from recipes.data.primer.topics import Question
from recipes.errors import InputError
from tokenizer.chat import Message

SYMBOLS_AND_WORDS = {"I", "He", "As"}  # "I think it is Na." speaks of no iodine


@dataclass(frozen=True)
class ExamItem:
    """A question to the model, and what its reply is checked by.

    kind: the exam that the item belongs to.
    answer: the right number, letter, or words of a fact.
    others: for a fact, answers that are wrong for sure.
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
    if item.kind == "facts":
        return mentions(reply, item.answer) and not any(mentions(reply, other) for other in item.others)
    if item.kind == "choice":
        letter = re.search(r"(?:^|=)([A-Z])\.?$", reply.strip())
        return letter is not None and letter[1] == item.answer
    return same_number(final_answer(reply), item.answer)


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
    answer = LETTERS[choices.index(question.answer)]
    asked = render_multiple_choice(question.text, choices, CHOICE_AND_LETTER)
    return ExamItem("choice", [user(asked)], answer)


def _ask_problem(name: str, *steps: int) -> Callable[[Random], ExamItem]:
    def ask(rng: Random) -> ExamItem:
        problem = draw_problem(rng, rng.choice(steps), held_out=True)
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
