"""Multiple-choice sources: MMLU and ARC, answered by a letter."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

import datasets

from recipes.data.messages import assistant, render_multiple_choice, user
from recipes.data.sources.tables import Table
from recipes.utils.errors import InputError
from tokenizer.chat import NANOCHAT, PLAIN, Message

MMLU = Table(
    name="mmlu",
    repository="cais/mmlu",
    config="all",
    columns={"question": "text", "choices": "lists", "answer": "integers"},
    splits={"train": ("auxiliary_train",), "validation": ("validation",), "test": ("test",)},
)
ARC_EASY, ARC_CHALLENGE = (
    Table(
        name=name,
        repository="allenai/ai2_arc",
        config=config,
        columns={"question": "text", "choices": "objects", "answerKey": "text"},
        splits={"train": ("train",), "validation": ("validation",), "test": ("test",)},
    )
    for name, config in (("arc_easy", "ARC-Easy"), ("arc_challenge", "ARC-Challenge"))
)
MULTIPLE_CHOICE = tuple(table.name for table in (ARC_EASY, ARC_CHALLENGE, MMLU))


def open_mmlu(path: str | None, split: str, wording: str = PLAIN) -> datasets.Dataset:
    """Conversations of MMLU; its train split is the 100K auxiliary questions."""
    return MMLU.conversations(path, split, render_mmlu, wording=wording)


def open_arc_easy(path: str | None, split: str, wording: str = PLAIN) -> datasets.Dataset:
    return ARC_EASY.conversations(path, split, render_arc, wording=wording)


def open_arc_challenge(path: str | None, split: str, wording: str = PLAIN) -> datasets.Dataset:
    return ARC_CHALLENGE.conversations(path, split, render_arc, wording=wording)


def render_mmlu(row: dict[str, Any], wording: str = PLAIN) -> list[Message]:
    """Conversation of a row of MMLU, whose answer is the position of the right choice."""
    return _exam(row["question"], row["choices"], row["answer"], wording, offered_letters(row, wording))


def render_arc(row: dict[str, Any], wording: str = PLAIN) -> list[Message]:
    """Conversation of a row of ARC, whose answer is the label of the right choice."""
    choices, labels = (row["choices"].get(key) for key in ("text", "label"))
    if not (isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels)):
        raise InputError("its choices are not a list of texts with a list of as many labels")
    if row["answerKey"] not in labels:
        raise InputError(f"the answer {row['answerKey']!r} is none of the labels {', '.join(map(str, labels))}")
    return _exam(row["question"], choices, labels.index(row["answerKey"]), wording, offered_letters(row, wording))


def offered_letters(row: dict[str, Any], wording: str = PLAIN) -> Sequence[str]:
    """The letters to choose from: A, B, C, ...; in nanochat's wording some rows of ARC keep their 1, 2, 3, ..."""
    choices = row["choices"]
    if isinstance(choices, dict) and wording == NANOCHAT:
        return choices["label"]
    return ascii_uppercase[: len(choices["text"] if isinstance(choices, dict) else choices)]


def _exam(question: str, choices: list[str], answer: int, wording: str, letters: Sequence[str]) -> list[Message]:
    if not 0 <= answer < len(choices) == len(letters):
        raise InputError(f"the answer {answer} is none of the {len(choices)} choices")
    if not all(isinstance(text, str) for text in (*choices, *letters)):
        raise InputError("one of its choices is not text")
    return [user(render_multiple_choice(question, choices, wording, letters)), assistant(letters[answer])]
