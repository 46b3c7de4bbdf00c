"""Read documents from local files: parquet, JSON and plain text. Damage is reported with its file and place."""

import gzip
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recipes.utils.errors import InputError, in_one_line
from recipes.utils.json_lines import UNREADABLE, Damaged, names_of, scan_json_rows

JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
TEXT_SUFFIXES = (".txt", ".txt.gz")
SUFFIXES = (".parquet", *JSON_SUFFIXES, *TEXT_SUFFIXES)  # in upper or lower case
# By default a document of a .txt file ends at the first blank line after MIN_TEXT_CHARS characters or, without a blank
# line, at the first line end after MAX_TEXT_CHARS.
MIN_TEXT_CHARS, MAX_TEXT_CHARS = 2_000, 20_000

PARQUET_ERRORS = (pa.ArrowException, OSError)  # Arrow raises either for a damaged file

logger = logging.getLogger(__name__)


def read_documents(files: list[str], column: str, skip_damaged: bool, separator: str = "auto") -> Iterator[str]:
    """Yield the documents of `files` in order, without null and empty ones.

    `separator`, one of `splits.DOCUMENT_SEPARATORS`, says where documents of plain text end.

    Raises `InputError` naming file and place at the first damaged row; with `skip_damaged` skips such rows instead,
    and warns once per file how many there were.
    """
    for path in files:
        first, skipped = None, 0
        for item in _reader(path, separator)(path, column):
            if isinstance(item, str):
                yield item
            elif skip_damaged:
                first, skipped = first or item, skipped + 1
            else:
                raise InputError(
                    f"{path}, {item.place}: {item.reason}. Repair the file, or leave such rows out by --skip_damaged."
                )
        if first is not None:
            warn_once(f"{path}: skipped {skipped:,} damaged, the first at {first.place}: {first.reason}")


def check_file(path: str, column: str) -> Damaged | None:
    """Check a file without reading all of it: None if no damage is found, else what makes the whole file unreadable.

    Raises `InputError` if the file may not be read, or if a parquet file has no text in `column`.
    """
    if (kind := describe_irregular_file(path)) is not None:
        return Damaged("start", f"it is {kind}")
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                return Damaged("start", "the file is empty")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return _check_parquet(path, column) if path.lower().endswith(".parquet") else None


def describe_irregular_file(path: str | Path) -> str | None:
    """What `path` is if it is not a regular file, which can be read more than once; None if it is one."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            return f"a broken link (to {os.readlink(path)})"
        return f"out of reach ({error.strerror})"
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISFIFO(mode):
        return "a pipe, which can be read only once (save what comes out of it to a file)"
    return "a directory" if stat.S_ISDIR(mode) else "a device"


def _check_parquet(path: str, column: str) -> Damaged | None:
    try:
        schema = pq.read_schema(path)
    except PARQUET_ERRORS as error:
        return Damaged("footer", f"not a readable parquet file ({in_one_line(error)})")
    kinds = {kind for name, kind in zip(schema.names, schema.types, strict=True) if name == column}
    if not kinds:
        raise InputError(f"{path}: {_missing_column(column, schema.names)}. Choose one by --text_column.")
    if not all(map(_is_text, kinds)):
        raise InputError(f"{path}: column {column!r} holds {kinds.pop()}, not text. Choose another by --text_column.")
    return None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(kind) for is_kind in tests)  # null is the type of a shard in which no row has text


def is_text(path: str) -> bool:
    """Whether `path` is named like a file of plain text."""
    return path.lower().endswith(TEXT_SUFFIXES)


def _reader(path: str, separator: str) -> Callable[[str, str], Iterator[str | Damaged]]:
    if path.lower().endswith(".parquet"):
        return _read_parquet
    return partial(_read_text, separator=separator) if is_text(path) else _read_json


def _read_parquet(path: str, column: str) -> Iterator[str | Damaged]:
    with pq.ParquetFile(path) as file:
        row = 0
        for group in range(file.num_row_groups):
            end = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=[column]):
                    for value in batch.column(0):
                        yield from _document(_python_value(value), f"row {row}")
                        row += 1
            except PARQUET_ERRORS as error:
                yield Damaged(f"row group {group} (rows {row} to {end - 1})", f"unreadable ({in_one_line(error)})")
            row = end


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error


def _read_json(path: str, column: str) -> Iterator[str | Damaged]:
    for place, row in scan_json_rows(path):
        if isinstance(row, Damaged):
            yield row
        elif not isinstance(row, dict):
            yield Damaged(place, f"{type(row).__name__} where an object with the key {column!r} is expected")
        elif column not in row:
            yield Damaged(place, _missing_column(column, row))
        else:
            yield from _document(row[column], place)


def _read_text(path: str, column: str, separator: str) -> Iterator[str | Damaged]:
    """Documents of a text file, in order, without the line ends around them; a whole text is left as it is."""
    around = "" if separator == "whole" else "\r\n"
    document, length, number = [], 0, 0
    with (gzip.open if path.lower().endswith(".gz") else open)(path, "rb") as lines:
        try:
            for number, raw in enumerate(lines, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    yield Damaged(f"line {number}", "not valid UTF-8")
                    continue
                document.append(line)
                length += len(line)
                if _ends_document(line, length, separator):
                    yield from _document("".join(document).strip(around), f"line {number}")
                    document, length = [], 0
        except UNREADABLE as error:
            yield Damaged(f"after line {number}", f"cannot be read ({in_one_line(error)})")
    yield from _document("".join(document).strip(around), "end")


def _ends_document(line: str, length: int, separator: str) -> bool:
    """Whether a document of `length` characters ends with its last `line`."""
    match separator:
        case "whole":
            return False
        case "lines":
            return True
        case "blank_lines":
            return line.isspace()
    return length >= MAX_TEXT_CHARS or (length >= MIN_TEXT_CHARS and line.isspace())


def _document(value: Any, place: str) -> Iterator[str | Damaged]:
    """Yield one document, one `Damaged`, or nothing if the value is null or empty."""
    if isinstance(value, str):
        if value and not value.isspace():
            yield value
    elif isinstance(value, UnicodeDecodeError):
        yield Damaged(place, "not valid UTF-8")
    elif value is not None:
        yield Damaged(place, f"{type(value).__name__} where text is expected")


def _missing_column(column: str, columns: Iterable[str]) -> str:
    return f"no column {column!r}; the columns there are {names_of(columns)}"


@cache
def warn_once(message: str) -> None:
    """Log a warning once: a file is read again every epoch, but its damage needs reporting only once."""
    logger.warning(message)
