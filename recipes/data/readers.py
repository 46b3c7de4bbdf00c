"""Documents out of local files: parquet, JSON and plain text. What cannot be read is told by file and place."""

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recipes.errors import InputError

SUFFIXES = (".parquet", ".jsonl.gz", ".jsonl", ".json", ".txt")
MIN_TEXT_CHARS = 2_000  # a document of a .txt file ends at the first blank line from here on,
MAX_TEXT_CHARS = 20_000  # or, where no blank line comes, at the first line end from here on

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damaged:
    """Stands where a document should be: the place in the file (`line 12`), and what is wrong there."""

    place: str
    reason: str


def read_documents(files: list[str], column: str, skip_damaged: bool) -> Iterator[str]:
    """Yield the documents of `files` in order; null and empty ones are left out.

    Raises `InputError` naming file and place at the first damaged row, or with `skip_damaged` leaves such rows out
    and warns once a file how many they were.
    """
    for path in files:
        skipped: list[Damaged] = []
        for item in _reader(path)(path, column):
            if isinstance(item, str):
                yield item
            elif skip_damaged:
                skipped.append(item)
            else:
                raise InputError(
                    f"{path}, {item.place}: {item.reason}. Repair the file, or leave such rows out by --skip_damaged."
                )
        if skipped:
            first = skipped[0]
            _warn_once(f"{path}: skipped {len(skipped)} damaged, the first at {first.place}: {first.reason}")


def check_file(path: str, column: str) -> Damaged | None:
    """What can be known of a file before reading it through: None if it is sound, or the damage to the whole of it.

    Raises `InputError` if the file may not be read or a parquet file has no text in `column`.
    """
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                return Damaged("start", "the file is empty")
        return _check_parquet(path, column) if path.endswith(".parquet") else None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _check_parquet(path: str, column: str) -> Damaged | None:
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        return Damaged("footer", f"not a readable parquet file ({_one_line(error)})")
    if column not in schema.names:
        raise InputError(f"{path}: {_missing_column(column, schema.names)}. Choose one by --text_column.")
    if not _is_text(schema.field(column).type):
        raise InputError(
            f"{path}: column {column!r} holds {schema.field(column).type}, not text. Choose another by --text_column."
        )
    return None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _reader(path: str) -> Callable[[str, str], Iterator[str | Damaged]]:
    if path.endswith(".parquet"):
        return _read_parquet
    if path.endswith(".jsonl.gz"):
        return partial(_read_json_lines, opener=gzip.open)
    if path.endswith(".jsonl"):
        return _read_json_lines
    if path.endswith(".json"):
        return _read_json
    return _read_text


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
            except (pa.ArrowException, OSError) as error:
                yield Damaged(f"row group {group} (rows {row} to {end - 1})", f"unreadable ({_one_line(error)})")
            row = end


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error


def _read_json_lines(path: str, column: str, opener: Callable = open) -> Iterator[str | Damaged]:
    number = 0
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield from _json_document(line, column, f"line {number}")
    except (EOFError, OSError, zlib.error) as error:  # of gzip: what follows is lost, what came before was yielded
        yield Damaged(f"after line {number}", f"unreadable ({_one_line(error)})")


def _read_json(path: str, column: str) -> Iterator[str | Damaged]:
    """A .json file is a list of objects, or JSON lines by another name."""
    with open(path, "rb") as file:
        if not file.read(1024).lstrip().startswith(b"["):
            yield from _read_json_lines(path, column)
            return
        file.seek(0)
        try:
            rows = json.load(file)
        except json.JSONDecodeError as error:
            yield Damaged(f"line {error.lineno}", f"not valid JSON ({error.msg} at column {error.colno})")
            return
        except UnicodeDecodeError as error:
            yield Damaged(f"byte {error.start}", "not valid UTF-8")
            return
    for number, row in enumerate(rows):
        yield from _row_document(row, column, f"row {number}")


def _json_document(line: bytes, column: str, place: str) -> Iterator[str | Damaged]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        yield Damaged(place, f"not valid JSON ({error.msg} at column {error.colno})")
    except UnicodeDecodeError:
        yield Damaged(place, "not valid UTF-8")
    else:
        yield from _row_document(row, column, place)


def _row_document(row: Any, column: str, place: str) -> Iterator[str | Damaged]:
    if not isinstance(row, dict):
        yield Damaged(place, f"{type(row).__name__} where an object with the key {column!r} is expected")
    elif column not in row:
        yield Damaged(place, _missing_column(column, list(row)))
    else:
        yield from _document(row[column], place)


def _read_text(path: str, column: str) -> Iterator[str | Damaged]:
    """Paragraphs gathered, in order, to documents of at least `MIN_TEXT_CHARS`; the last may be shorter."""
    document, length = [], 0
    with open(path, "rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                yield Damaged(f"line {number}", "not valid UTF-8")
                continue
            document.append(line)
            length += len(line)
            if length >= MAX_TEXT_CHARS or (length >= MIN_TEXT_CHARS and line.isspace()):
                yield from _document("".join(document).strip("\r\n"), f"line {number}")
                document, length = [], 0
    yield from _document("".join(document).strip("\r\n"), "end")


def _document(value: Any, place: str) -> Iterator[str | Damaged]:
    """One document or one damage, or nothing where the value is null or empty."""
    if isinstance(value, str):
        if value and not value.isspace():
            yield value if _is_unicode(value) else Damaged(place, "the text holds a lone surrogate, not valid Unicode")
    elif isinstance(value, UnicodeDecodeError):
        yield Damaged(place, "not valid UTF-8")
    elif value is not None:
        yield Damaged(place, f"{type(value).__name__} where text is expected")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _missing_column(column: str, columns: list[str]) -> str:
    return f"no column {column!r}; the columns there are {', '.join(map(str, columns)) or 'none'}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@cache
def _warn_once(message: str) -> None:
    """A file is read again every epoch, but its damage is news once."""
    logger.warning(message)
