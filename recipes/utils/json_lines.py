"""Read JSON files: the one reader of rows, and the one list of what can be wrong with a row.

A row is a line of a JSON lines file, or an entry of a JSON list; both may be compressed. Rows that cannot be read are
reported with their place, and the caller decides whether to stop or to skip them.
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

from recipes.utils.errors import InputError, in_one_line

UNREADABLE = (EOFError, OSError, zlib.error)  # raised in the middle of a file; gzip raises the first and the last
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a surrogate pair, perhaps without the other half


@dataclass(frozen=True)
class Damaged:
    """A row that cannot be read: its place in the file (`line 12`), and what is wrong there."""

    place: str
    reason: str


class JsonError(InputError):
    """Why a text is not valid JSON, as a phrase to follow its place."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line  # line of the error within the text, from 1


def parse_json(text: bytes) -> Any:
    """Parse UTF-8 text as JSON. Raises `JsonError` if it is invalid or contains a lone surrogate."""
    value = _load(text)
    if SURROGATE.search(text):  # UTF-8 cannot encode surrogates, so they can only come from escapes
        _check_unicode(value)
    return value


def read_json_rows(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield each row's place (`PATH, line 12`) and value. Raises `InputError` at the first damaged row."""
    for place, row in scan_json_rows(path):
        if isinstance(row, Damaged):
            raise InputError(f"{path}, {place}: {row.reason}.")
        yield f"{path}, {place}", row


def scan_json_rows(path: str | Path) -> Iterator[tuple[str, Any | Damaged]]:
    """Yield each row's place (`line 12` from 1, `row 11` of a list from 0), and its value or `Damaged`.

    A .jsonl file is read line by line, without blank lines. Other files may hold a list, one object, or lines. The
    file is read only once, so it may be a pipe. Raises `InputError` if it cannot be opened.
    """
    with _open(path) as file:
        try:
            head = b"" if is_json_lines(path) else _first_line(file)
            if is_json_lines(path) or _is_row(head):
                yield from _rows_of_lines(chain(io.BytesIO(head), file))
            else:
                yield from _rows_of_value(head + file.read())
        except UNREADABLE as error:
            yield "start", Damaged("start", f"cannot be read ({in_one_line(error)})")


def is_json_lines(path: str | Path) -> bool:
    """Whether a file is named as JSON lines: .jsonl or .jsonl.gz, in upper or lower case."""
    return str(path).lower().endswith((".jsonl", ".jsonl.gz"))


def names_of(keys: Iterable[Any], most: int = 20) -> str:
    """A list of keys, columns or files for a message: escaped, shortened, and at most `most` of them."""
    names = [repr(str(key))[1:-1][:60] for key in keys]
    more = f", ... ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def _open(path: str | Path) -> IO[bytes]:
    try:
        return (gzip.open if str(path).lower().endswith(".gz") else open)(os.path.expanduser(path), "rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _first_line(file: IO[bytes]) -> bytes:
    """Everything up to the end of the first line that is not blank."""
    head = line = file.readline()
    while line.isspace():
        line = file.readline()
        head += line
    return head


def _is_row(head: bytes) -> bool:
    """Whether a first line is a complete row, and not the beginning of a list or object over several lines."""
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
    except UNREADABLE as error:  # the rest of the file is lost; earlier rows were yielded
        place = f"after line {number}"
        yield place, Damaged(place, f"cannot be read ({in_one_line(error)})")


def _rows_of_value(text: bytes) -> Iterator[tuple[str, Any | Damaged]]:
    """The rows of a whole text: the entries of a list, or one object, or else its lines."""
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
    """Parse JSON, turning everything that Python raises into `JsonError`.

    Accepts NaN and Infinity, which JSON does not have: pandas writes them, often in columns that are not read.
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
