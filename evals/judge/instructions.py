"""Instruction sets in the Alpaca layout: rows of `instruction`, `input` and `output`, the reference answer."""

from dataclasses import dataclass
from typing import Any

from recipes.data.messages import user
from recipes.utils.errors import InputError
from recipes.utils.json_lines import names_of, read_json_rows
from tokenizer.chat import Message


@dataclass
class Row:
    """One instruction, with its answer and verdict so far."""

    instruction: str
    input: str
    reference: str
    answer: str | None = None  # the model's
    score: float | None = None  # the judge's, 0 to 100
    reason: str | None = None
    error: str | None = None  # why the judge gave no score

    @property
    def question(self) -> tuple[str, str, str]:
        """The fields of the instruction set."""
        return self.instruction, self.input, self.reference

    @property
    def conversation(self) -> list[Message]:
        """The prompt for the model: the instruction, then the input if there is one."""
        return [user("\n\n".join(text for text in (self.instruction, self.input) if text))]


def read_instructions(path: str) -> list[Row]:
    """The rows of a JSON list or of JSON lines; `input` and `output` may be empty, and `input` may be missing.

    Raises `InputError` naming the file and the first row (from 0) or line (from 1) that is malformed.
    """
    rows = [_row(record, place) for place, record in read_json_rows(path)]
    if not rows:
        raise InputError(f"{path} holds no instructions.")
    return rows


def _row(record: Any, where: str) -> Row:
    if not isinstance(record, dict):
        raise InputError(f"{where}: {type(record).__name__} where an object with instruction and output is expected.")
    texts = {"input": ""} | record
    for key in ("instruction", "input", "output"):
        if key not in texts:
            raise InputError(f"{where}: no {key!r}; the keys there are {names_of(record)}.")
        if not isinstance(texts[key], str):
            raise InputError(f"{where}: {key!r} holds {type(texts[key]).__name__}, not text.")
    if not texts["instruction"].strip():
        raise InputError(f"{where}: the instruction is empty.")
    return Row(texts["instruction"], texts["input"], texts["output"])
