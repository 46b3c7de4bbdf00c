"""Sources that need little rendering: SmolTalk's conversations, HumanEval's functions."""

from typing import Any

import datasets

from recipes.data.messages import assistant, user
from recipes.data.sources.tables import Table
from tokenizer.chat import Message

SMOLTALK = Table(
    name="smoltalk",
    repository="HuggingFaceTB/smol-smoltalk",
    config=None,
    columns={"messages": "lists"},
    splits={"train": ("train",), "validation": ("test",), "test": ("test",)},
)
HUMANEVAL = Table(
    name="humaneval",
    repository="openai/openai_humaneval",
    config="openai_humaneval",
    columns={"prompt": "text", "canonical_solution": "text"},
    splits={"test": ("test", "HumanEval")},  # nothing to train on
)


def open_smoltalk(path: str | None, split: str) -> datasets.Dataset:
    """SmolTalk: 460K conversations of many turns on everything, its version for small models."""
    return SMOLTALK.conversations(path, split, render_smoltalk)


def open_humaneval(path: str | None, split: str) -> datasets.Dataset:
    """HumanEval: a Python function to be completed. Only `test` exists."""
    return HUMANEVAL.conversations(path, split, render_humaneval)


def render_smoltalk(row: dict[str, Any]) -> list[Message]:
    """A row of SmolTalk is a conversation already."""
    return row["messages"]


def render_humaneval(row: dict[str, Any]) -> list[Message]:
    """The function's head as the user's request, its body as the answer."""
    return [user(f"Complete this Python function.\n\n{row['prompt']}"), assistant(row["canonical_solution"])]
