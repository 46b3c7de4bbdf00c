"""Datasets with known columns, on the Hub or as local files in the same layout."""

import fnmatch
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.fingerprint import Hasher

from recipes.data import messages
from recipes.data.messages import CONVERSATIONS, check_messages, has_answers, warn_of_empty_answers
from recipes.data.readers import describe_irregular_file
from recipes.utils import calculator
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.hub import check_hub_reachable
from recipes.utils.json_lines import names_of, read_json_rows
from tokenizer.chat import Message

PATTERNS = ("{}-*.parquet", "{}.parquet", "{}.jsonl", "{}.jsonl.gz")
# The types of a column: in Python, as JSON is parsed, and in Arrow, which returns such values unchanged.
TYPES = {"text": str, "integers": int, "lists": list, "objects": dict}
FEATURES = {
    "text": datasets.Value("string"),
    "integers": datasets.Value("int64"),
    "lists": datasets.List(datasets.Json()),
    "objects": datasets.Json(),
}


@dataclass(frozen=True)
class Table:
    """A dataset of the Hub: repository, configuration, and the columns that are read with their types.

    `splits` maps each of our splits to its name on the Hub, and to other names that local files of it may have.
    """

    name: str
    repository: str
    config: str | None
    columns: dict[str, str]
    splits: dict[str, tuple[str, ...]]

    def open(self, path: str | None, split: str) -> datasets.Dataset:
        """The rows of a split, from `path` (a directory, or the split's file) or the Hub, memory-mapped from disk.

        Raises `InputError` for a split that does not exist, missing or damaged files, columns that are missing or of
        another type, and a Hub that does not answer.
        """
        if split not in self.splits:
            raise InputError(f"{self.name} has no split {split!r}; its splits are {', '.join(self.splits)}.")
        if path is None:
            check_hub_reachable(
                f"{self.repository} has to be loaded from it. Connect, or give a directory as {self.name}:PATH."
            )
            options = {"path": self.repository, "name": self.config, "split": self.splits[split][0]}
            rows = self._load(self.repository, datasets.load_dataset, **options)
        else:
            files = self._find(Path(os.path.expanduser(path)), split)
            if files[0].lower().endswith(".parquet"):
                rows = self._load(
                    path, datasets.load_dataset, path="parquet", data_files={"rows": files}, split="rows"
                )
            else:
                rows = self._load(path, self._load_json, files)
        self._check_columns(rows, path or self.repository)
        return rows.select_columns(list(self.columns))

    def conversations(
        self, path: str | None, split: str, render: Callable[..., list[Message]], **options: Any
    ) -> datasets.Dataset:
        """The rows of a split as conversations, `render(row, **options)`, without those that have an empty answer.

        Raises `InputError` naming the first row that gives an invalid conversation.
        """
        rows = self.open(path, split)

        def converse(batch: dict[str, list], numbers: list[int]) -> dict[str, list[list[Message]]]:
            talks = []
            for number, *values in zip(numbers, *batch.values(), strict=True):
                try:
                    talks.append(check_messages(render(dict(zip(batch, values, strict=True)), **options)))
                except InputError as error:
                    raise InputError(f"{path or self.repository}, {split} row {number}: {error}") from None
            return {"messages": [messages for messages in talks if has_answers(messages)]}

        conversations = rows.map(
            converse,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            features=CONVERSATIONS,
            new_fingerprint=_fingerprint(rows, render, options),
            desc=f"Read {self.name}",
        )
        warn_of_empty_answers(f"{path or self.repository}, {split}", len(rows), kept=len(conversations))
        return conversations

    def _find(self, root: Path, split: str) -> list[str]:
        """The file `root`, or the split's sorted files in a directory: in the Hub's layout, or all in one place."""
        if os.path.lexists(root) and not root.is_dir():
            return [self._readable(root)]
        if not root.is_dir():
            raise InputError(f"{self.name}: no such directory: {root}.")
        directories = [root / self.config] if self.config else []
        for directory in filter(Path.is_dir, [*directories, root / "data", root]):
            names = {path.name.lower(): path for path in sorted(directory.iterdir())}
            for name in self.splits[split]:
                for pattern in PATTERNS:
                    if found := fnmatch.filter(names, pattern.format(name.lower())):
                        return [self._readable(names[each]) for each in found]
        wanted = ", ".join(pattern.format(self.splits[split][0]) for pattern in PATTERNS)
        raise InputError(f"{self.name}: no file of split {split} in {root}: looked for {wanted}.")

    def _readable(self, file: Path) -> str:
        if (kind := describe_irregular_file(file)) is not None:
            raise InputError(f"{self.name}: {file} is {kind}.")
        return str(file)

    def _check_columns(self, rows: datasets.Dataset, where: str) -> None:
        if not len(rows):
            raise InputError(f"{where} is empty.")
        known = [column for column in self.columns if column in rows.column_names]
        try:
            rows.select_columns(known).data.validate(full=True)
        except pa.ArrowInvalid as error:  # text that is not UTF-8, which Arrow does not check on reading
            raise InputError(f"{where} is damaged: {in_one_line(error)}.") from None
        for column, kind in self.columns.items():
            if column not in rows.column_names:
                there = ", ".join(rows.column_names)
                raise InputError(f"{where}: no column {column!r}; the columns there are {there}.")
            if _kind(rows.features[column]) != kind:
                raise InputError(f"{where}: column {column!r} holds {_kind(rows.features[column])}, not {kind}.")
            if nulls := rows.data.column(column).null_count:
                raise InputError(f"{where}: column {column!r} is null in {nulls} of {len(rows)} rows.")

    def _load_json(self, files: list[str]) -> datasets.Dataset:
        """Read by our reader, which names damaged lines. `stamps` let the cache of `datasets` notice changed files."""
        stamps = [(os.stat(file).st_mtime_ns, os.stat(file).st_size) for file in files]
        features = datasets.Features({column: FEATURES[kind] for column, kind in self.columns.items()})
        options = {"files": files, "columns": self.columns, "stamps": stamps}
        return datasets.Dataset.from_generator(_json_rows, features=features, gen_kwargs=options)

    def _load(self, where: str, load: Callable[..., datasets.Dataset], *args: Any, **options: Any) -> datasets.Dataset:
        try:
            return load(*args, **options)
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, InputError):
                raise cause from None
            raise InputError(f"{self.name}: {where} cannot be read: {in_one_line(cause)}") from error


def _json_rows(files: list[str], columns: dict[str, str], stamps: list) -> Iterator[dict[str, Any]]:
    for place, row in chain.from_iterable(map(read_json_rows, files)):
        if not isinstance(row, dict):
            raise InputError(f"{place}: {type(row).__name__} where an object is expected.")
        for column, kind in columns.items():
            if column not in row:
                raise InputError(f"{place}: no column {column!r}; the columns there are {names_of(row)}.")
            if type(row[column]) is not TYPES[kind]:
                raise InputError(f"{place}: {column!r} holds {type(row[column]).__name__} where {kind} are expected.")
        yield {column: row[column] for column in columns}


def _fingerprint(rows: datasets.Dataset, render: Callable, options: dict[str, Any]) -> str:
    """Key of the rendered rows in the cache. `datasets` by itself would not notice changes in code `render` calls."""
    modules = (sys.modules[render.__module__], messages, calculator)
    code = [inspect.getsource(module) for module in modules]
    return Hasher.hash([rows._fingerprint, render.__qualname__, options, *code])


def _kind(feature: Any) -> str:
    if isinstance(feature, dict | datasets.Json):
        return "objects"
    if isinstance(feature, datasets.List | datasets.LargeList):
        return "lists"
    if isinstance(feature, datasets.ClassLabel) or feature.dtype.startswith(("int", "uint")):
        return "integers"
    return "text" if feature.dtype in ("string", "large_string") else str(feature.dtype)
