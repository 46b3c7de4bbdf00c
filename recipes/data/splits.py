"""Which of several data files are trained on and which are held out: their names say it, as on the Hub."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from recipes.utils.errors import InputError

# The words that `datasets` knows, where they stand alone in the name of a file or directory: train-00000.parquet,
# my_test.jsonl, validation/part1.jsonl.
SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True)
class SplitFiles:
    """Files to train on, files to hold out, and those whose names keep them out of both.

    A file that stands in both of the first two lists is split by the hash of what it holds.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def by_hash(self) -> bool:
        """Whether one file gives both."""
        return bool(self.train) and self.train == self.validation

    @property
    def used(self) -> list[str]:
        """Every file that is read, once: those to train on, then those held out."""
        return list(dict.fromkeys([*self.train, *self.validation]))

    def names(self) -> dict[str, list[str]]:
        """Short names of the files, by what they are used for."""
        parts = vars(self)
        files = [file for part in parts.values() for file in part]
        short = dict(zip(files, short_names(files), strict=True))
        return {use: [short[file] for file in part] for use, part in parts.items() if part}

    def line(self) -> str:
        """The same for a person: which files are trained on, held out and left out."""
        names = {use: list_names(files) for use, files in self.names().items()}
        held_out = "1% of it" if self.by_hash else names.get("validation")
        left_out = f"; left out, by name: {names['left_out']}" if self.left_out else ""
        return f"trained on {names.get('train')}; held out for validation: {held_out}{left_out}"


def split_files(files: Sequence[str]) -> SplitFiles:
    """Sort `files` into splits by their names, without choosing what to hold out where no name says it.

    Numbers in names sort as numbers.

    Files named as validation are held out, or those named as test where there are none. Where some are named as train,
    only these are trained on. The name of a single file says nothing: it is what the caller asked for.
    Raises `InputError` if all of several files are named as held-out data.
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
    """The same files with something held out: where no name says what, the last of several, or 1% of a single one."""
    if files.validation:
        return files
    if len(files.train) == 1:
        return replace(files, validation=files.train)
    return replace(files, train=files.train[:-1], validation=files.train[-1:])


def split_of(name: str) -> str | None:
    """The split that a relative path names, the file's own name before its directories; None for none, or for two."""
    parts = PurePath(name).parts
    for part in reversed(parts):
        splits = {SPLIT_OF_WORD[word] for word in re.findall(r"[a-z]+", part.lower()) if word in SPLIT_OF_WORD}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that sorts part2 before part10."""
    pieces = re.split(r"(\d+)", name)  # text and digits in turn
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], name


def short_names(files: Sequence[str]) -> list[str]:
    """The files' paths below the directory that they share."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]) if files else ""
    return [os.path.relpath(os.path.abspath(file), root) for file in files]


def list_names(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c`, or `a ... z (40 files)` where there are more than `most`."""
    return ", ".join(names) if len(names) <= most else f"{names[0]} ... {names[-1]} ({len(names):,} files)"
