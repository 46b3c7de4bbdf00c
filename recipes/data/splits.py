"""Train and validation splits: of several files by their names, as on the Hub; of a single file by a hash.

A single text that is read whole is cut: its end is held out.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from recipes.utils.errors import InputError

# Where documents of a .txt file end: at blank lines that are not too close, nowhere, at every line end, at every blank
# line.
DOCUMENT_SEPARATORS = ("auto", "whole", "lines", "blank_lines")

HASH_RANGE = 2**64
VALIDATION_HASH = HASH_RANGE - HASH_RANGE // 100  # the last 1% of the hashes

# The words that `datasets` recognizes as whole words in the name of a file or directory: train-00000.parquet,
# my_test.jsonl, validation/part1.jsonl.
SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True)
class SplitFiles:
    """Files to train on, files held out for validation, and files whose names exclude them from both.

    A file in both of the first two lists is split by the hash of its documents, or, if `cut`, at a place in its text.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    cut: bool = False

    @property
    def by_hash(self) -> bool:
        """Whether a single file gives both train and validation, by the hash of its documents."""
        return bool(self.train) and self.train == self.validation and not self.cut

    @property
    def used(self) -> list[str]:
        """Every file that is read, without repeats: training files, then validation files."""
        return list(dict.fromkeys([*self.train, *self.validation]))

    def names(self) -> dict[str, list[str]]:
        """Short names of the files by use (train, validation, left_out), uses without files omitted."""
        parts = {"train": self.train, "validation": self.validation, "left_out": self.left_out}
        files = [file for part in parts.values() for file in part]
        short = dict(zip(files, short_names(files), strict=True))
        return {use: [short[file] for file in part] for use, part in parts.items() if part}

    def line(self) -> str:
        """One line for people: which files are trained on, held out and left out."""
        names = {use: list_names(files) for use, files in self.names().items()}
        held_out = "1% of it" if self.by_hash else "the last 10% of it" if self.cut else names.get("validation")
        left_out = f"; left out, by name: {names['left_out']}" if self.left_out else ""
        return f"trained on {names.get('train')}; held out for validation: {held_out}{left_out}"


def split_files(files: Sequence[str]) -> SplitFiles:
    """Sort `files` into splits by their names; numbers in names sort as numbers.

    Files named as validation are held out, or else those named as test. If some are named as train, only these are
    trained on. The name of a single file is ignored: the caller asked for that file. `hold_out` chooses validation
    data where no name does. Raises `InputError` if all of several files are named as held-out data.
    """
    files = sorted(files, key=natural_order)
    if len(files) == 1:
        return SplitFiles(files, [], [])
    by_split: dict[str | None, list[str]] = {}
    for file, short in zip(files, short_names(files), strict=True):
        by_split.setdefault(split_of(short), []).append(file)
    train = by_split.get("train") or by_split.get(None) or []
    validation = by_split.get("validation") or by_split.get("test") or []
    if not train:
        names = " and ".join(sorted(by_split))
        raise InputError(
            f"no file to train on: all {len(files)}, from {files[0]} to {files[-1]}, are named as {names} data. "
            "Name a single file to train on it nevertheless, or rename them."
        )
    used = {*train, *validation}
    return SplitFiles(train, validation, [file for file in files if file not in used])


def hold_out(files: SplitFiles) -> SplitFiles:
    """`files` with validation data: if none is named so, the last of several files, or 1% of a single file."""
    if files.validation:
        return files
    if len(files.train) == 1:
        return replace(files, validation=files.train)
    return replace(files, train=files.train[:-1], validation=files.train[-1:])


def split_of(name: str) -> str | None:
    """The split that a relative path names: by the file name, else by its directories. None if none or two match."""
    parts = PurePath(name).parts
    for part in reversed(parts):
        splits = {SPLIT_OF_WORD[word] for word in re.findall(r"[a-z]+", part.lower()) if word in SPLIT_OF_WORD}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts part2 before part10."""
    pieces = re.split(r"(\d+)", name)  # text and digits alternate
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], name


def short_names(files: Sequence[str]) -> list[str]:
    """Paths of the files relative to their common directory."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]) if files else ""
    return [os.path.relpath(os.path.abspath(file), root) for file in files]


def list_names(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c`, or `a ... z (40 files)` if there are more than `most`."""
    return ", ".join(names) if len(names) <= most else f"{names[0]} ... {names[-1]} ({len(names):,} files)"


def cut_text(text: str) -> tuple[str, str]:
    """The first 90% of a text's characters, to train on, and the last 10%, to hold out."""
    end = len(text) * 9 // 10
    return text[:end], text[end:]


def document_hash(text: str) -> int:
    """A number in [0, 2^64) that depends on the text alone: the same on every machine and in every order of rows."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def rows_of_split(hashes: Sequence[int], split: str, path: str, kind: str) -> list[int]:
    """Which rows of a single file are in `split`, by their hashes: the last 1% of all hashes is held out.

    At least one row is held out, and at least one is not. Raises `InputError` if all rows (of a `kind`) are the same.
    """
    lowest, highest = min(hashes), max(hashes)
    if lowest == highest:
        raise InputError(f"{path} holds a single {kind}; training needs one more to hold out for validation.")
    first = VALIDATION_HASH if lowest < VALIDATION_HASH <= highest else highest
    return [row for row, value in enumerate(hashes) if (value < first) == (split == "train")]
