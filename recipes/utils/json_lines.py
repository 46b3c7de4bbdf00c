"""JSON out of files: one reader of rows, and one list of what can be wrong with a row.

A row is a line of JSON lines, or an entry of a list; either file may be compressed. Files come from anywhere, so a row
that cannot be read is told by its place, and whoever reads decides whether to stop there or to leave it out.
"""

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from recipes.utils.errors import InputError

UNREADABLE = (EOFError, OSError, zlib.error)  # raised in the middle of a file; the first and the last by gzip
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a character, if it is not beside the other half


@dataclass(frozen=True)
class Damaged:
    """Stands where a row should be: the place in the file (`line 12`), and what is wrong there."""

    place: str
    reason: str


class JsonError(InputError):
    """Why a text cannot be read as JSON: a phrase to follow its place."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line  # of the text, from 1


def parse_json(text: bytes) -> Any:
    """The value that a text in UTF-8 stands for. Raises `JsonError` if it cannot be read or has a lone surrogate."""
    value = _load(text)
    if SURROGATE.search(text):  # UTF-8 has none: it can only come of an escape
        _check_unicode(value)
    return value


def read_json_rows(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield each row's place (`PATH, line 12`) and value. Raises `InputError` at the first one that is damaged."""
    for place, row in scan_json_rows(path):
        if isinstance(row, Damaged):
            raise InputError(f"{path}, {place}: {row.reason}.")
        yield f"{path}, {place}", row


def scan_json_rows(path: str | Path) -> Iterator[tuple[str, Any | Damaged]]:
    """Yield each row's place (`line 12` from 1, `row 11` of a list from 0) and value, or `Damaged` in its stead.

    A .jsonl file is read line by line, blank ones left out. Any other may hold a list, one object, or lines. A file is
    read once, from its beginning: it may be a pipe. Raises `InputError` if it cannot be opened.
    """
    with _open(path) as file:
        try:
            head = b"" if is_json_lines(path) else _first_line(file)
            if is_json_lines(path) or _is_row(head):
                yield from _rows_of_lines(chain(io.BytesIO(head), file))
            else:
                yield from _rows_of_value(head + file.read())
        except UNREADABLE as error:
            yield "start", Damaged("start", f"cannot be read ({one_line(error)})")


def is_json_lines(path: str | Path) -> bool:
    """Whether a file is one of JSON lines by its name: .jsonl or .jsonl.gz, in capitals or not."""
    return str(path).lower().endswith((".jsonl", ".jsonl.gz"))


def names_of(keys: Iterable[Any], most: int = 20) -> str:
    """Keys, columns or files as they fit into a line, whatever is written in them."""
    names = [repr(str(key))[1:-1][:60] for key in keys]
    more = f", ... ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def one_line(error: Exception) -> str:
    """What an exception says, to stand in a line of ours."""
    return " ".join(str(error).split())[:200]


def _open(path: str | Path) -> IO[bytes]:
    try:
        return (gzip.open if str(path).lower().endswith(".gz") else open)(os.path.expanduser(path), "rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _first_line(file: IO[bytes]) -> bytes:
    """The first line that is not blank, and all before it."""
    head = line = file.readline()
    while line.isspace():
        line = file.readline()
        head += line
    return head


def _is_row(head: bytes) -> bool:
    """Whether a first line is a row of its own, and does not begin a list or an object that ends further below."""
    try:
        return not isinstance(_load(head), list)
    except JsonError:
        return False


def _rows_of_lines(lines: Iterable[bytes]) -> Iterator[tuple[str, Any | Damaged]]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            place = f"line {number}"
            try:
                row = parse_json(line.rstrip())
            except JsonError as error:
                row = Damaged(place, str(error))
            yield place, row
    except UNREADABLE as error:  # what follows is lost; what came before was yielded
        place = f"after line {number}"
        yield place, Damaged(place, f"cannot be read ({one_line(error)})")


def _rows_of_value(text: bytes) -> Iterator[tuple[str, Any | Damaged]]:
    """The entries of the list, or the object, that the whole text is; its lines if it is neither."""
    try:
        value = _load(text)
    except JsonError as error:
        if text.lstrip().startswith(b"["):
            place = f"line {error.line}"
            yield place, Damaged(place, str(error))
        else:
            yield from _rows_of_lines(io.BytesIO(text))
        return
    escapes = SURROGATE.search(text)
    for number, row in enumerate(value if isinstance(value, list) else [value]):
        place = f"row {number}"
        try:
            if escapes:
                _check_unicode(row)
        except JsonError as error:
            row = Damaged(place, str(error))
        yield place, row


def _load(text: bytes) -> Any:
    """All that Python raises for text that is not JSON, or more than it can hold, as `JsonError`.

    NaN and Infinity are let through, although JSON has neither: pandas writes them into columns that nobody reads.
    """
    try:
        return json.loads(text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise JsonError(
            f"not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno})", error.lineno
        ) from None
    except UnicodeDecodeError as error:
        raise JsonError("not valid UTF-8", 1 + text.count(b"\n", 0, error.start)) from None
    except RecursionError:
        raise JsonError("lists or objects nested too deep to be read") from None
    except ValueError:  # beyond sys.get_int_max_str_digits()
        raise JsonError("a number of too many digits to be read") from None


def _check_unicode(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("a lone surrogate, which is not valid Unicode") from None
    except RecursionError:
        raise JsonError("lists or objects nested too deep to be read") from None
