"""Instruction sets in the Alpaca layout: rows of `instruction`, `input` and `output`, the reference answer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data.messages import user
from recipes.errors import InputError
from tokenizer.chat import Message


@dataclass
class Row:
    """One instruction, and what has become of it so far."""

    instruction: str
    input: str
    reference: str
    answer: str | None = None  # the model's
    score: float | None = None  # the judge's, 0 to 100
    reason: str | None = None
    error: str | None = None  # why there is no score although the judge was asked

    @property
    def question(self) -> tuple[str, str, str]:
        """What was in the instruction set."""
        return self.instruction, self.input, self.reference

    @property
    def conversation(self) -> list[Message]:
        """What the model is asked: the input, where there is one, follows the instruction."""
        return [user("\n\n".join(text for text in (self.instruction, self.input) if text))]


def read_instructions(path: str) -> list[Row]:
    """The rows of a JSON list or of JSON lines; `input` and `output` may be empty, and `input` may be missing.

    Raises `InputError` naming the file and the first row (from 0) or line (from 1) that is not as it should be.
    """
    rows = [_row(record, f"{path}, {place}") for place, record in _records(path)]
    if not rows:
        raise InputError(f"{path} holds no instructions.")
    return rows


def _records(path: str) -> Iterator[tuple[str, Any]]:
    """Each record and its place."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, byte {error.start}: not valid UTF-8.") from None
    if text.lstrip().startswith("["):
        for number, record in enumerate(_parse(text, path)):
            yield f"row {number}", record
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parse(line, f"{path}, line {number}")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not JSON that can be read: a number too long, or lists too deep.") from None


def _row(record: Any, where: str) -> Row:
    if not isinstance(record, dict):
        raise InputError(f"{where}: {type(record).__name__} where an object with instruction and output is expected.")
    texts = {"input": ""} | record
    for key in ("instruction", "input", "output"):
        if key not in texts:
            raise InputError(f"{where}: no {key!r}; the keys there are {', '.join(record) or 'none'}.")
        if not isinstance(texts[key], str):
            raise InputError(f"{where}: {key!r} holds {type(texts[key]).__name__}, not text.")
        try:
            texts[key].encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{where}: {key!r} holds a lone surrogate, not valid Unicode.") from None
    if not texts["instruction"].strip():
        raise InputError(f"{where}: the instruction is empty.")
    return Row(texts["instruction"], texts["input"], texts["output"])
