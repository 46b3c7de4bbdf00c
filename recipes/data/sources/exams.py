"""Multiple choice: MMLU and ARC, answered by a letter."""

from string import ascii_uppercase
from typing import Any

import datasets

from recipes.data.messages import assistant, render_multiple_choice, user
from recipes.data.sources.tables import Table
from recipes.errors import InputError
from tokenizer.chat import Message

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


def open_mmlu(path: str | None, split: str) -> datasets.Dataset:
    """Conversations of MMLU; those to train on are its 100K auxiliary ones."""
    return MMLU.conversations(path, split, render_mmlu)


def open_arc_easy(path: str | None, split: str) -> datasets.Dataset:
    """Conversations of ARC-Easy."""
    return ARC_EASY.conversations(path, split, render_arc)


def open_arc_challenge(path: str | None, split: str) -> datasets.Dataset:
    """Conversations of ARC-Challenge."""
    return ARC_CHALLENGE.conversations(path, split, render_arc)


def render_mmlu(row: dict[str, Any]) -> list[Message]:
    """A row of MMLU, whose answer is the position of the right choice."""
    return _exam(row["question"], row["choices"], row["answer"])


def render_arc(row: dict[str, Any]) -> list[Message]:
    """A row of ARC. Some of its questions label the choices 1, 2, 3, ...; ours are A, B, C, ... always."""
    choices, labels = (row["choices"].get(key) for key in ("text", "label"))
    if not (isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels)):
        raise InputError("its choices are not a list of texts with a list of as many labels")
    if row["answerKey"] not in labels:
        raise InputError(f"the answer {row['answerKey']!r} is none of the labels {', '.join(labels)}")
    return _exam(row["question"], choices, labels.index(row["answerKey"]))


def _exam(question: str, choices: list[str], answer: int) -> list[Message]:
    if not 0 <= answer < len(choices) <= len(ascii_uppercase):
        raise InputError(f"the answer {answer} is none of the {len(choices)} choices")
    if not all(isinstance(choice, str) for choice in choices):
        raise InputError("one of its choices is not text")
    return [user(render_multiple_choice(question, choices)), assistant(ascii_uppercase[answer])]
