"""SmolTalk's conversations and HumanEval's functions, which need little rendering."""

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
    """SmolTalk: 460K multi-turn conversations on all subjects, in the version for small models."""
    return SMOLTALK.conversations(path, split, render_smoltalk)


def open_humaneval(path: str | None, split: str) -> datasets.Dataset:
    """HumanEval: Python functions to complete. Only `test` exists."""
    return HUMANEVAL.conversations(path, split, render_humaneval)


def render_smoltalk(row: dict[str, Any]) -> list[Message]:
    return row["messages"]


def render_humaneval(row: dict[str, Any]) -> list[Message]:
    """The function's signature and docstring as the user's request, its body as the answer."""
    return [user(f"Complete this Python function.\n\n{row['prompt']}"), assistant(row["canonical_solution"])]
