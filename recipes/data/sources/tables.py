"""Tables of known columns: on the Hub, or as local files laid out as there."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.fingerprint import Hasher

from recipes.data import messages
from recipes.data.messages import CONVERSATIONS, check_messages
from recipes.errors import InputError
from recipes.hub import check_hub_reachable
from recipes.inference import calculator
from tokenizer.chat import Message

PATTERNS = ("{}-*.parquet", "{}.parquet", "{}.jsonl", "{}.jsonl.gz")


@dataclass(frozen=True)
class Table:
    """A dataset of the Hub: its repository, its configuration there, the columns that we read and what they hold.

    `splits` gives for each of ours the name of theirs, and further names that local files of it may have.
    """

    name: str
    repository: str
    config: str | None
    columns: dict[str, str]
    splits: dict[str, tuple[str, ...]]

    def open(self, path: str | None, split: str) -> datasets.Dataset:
        """The rows of a split, from `path` (a directory, or the split's file) or the Hub. Nothing is held in memory.

        Raises `InputError` for a split that does not exist, missing or damaged files, columns that are missing or
        hold something else, and a Hub that does not answer.
        """
        if split not in self.splits:
            raise InputError(f"{self.name} has no split {split!r}; its splits are {', '.join(self.splits)}.")
        if path is None:
            check_hub_reachable(
                f"{self.repository} has to be loaded from it. Connect, or give a directory as {self.name}:PATH."
            )
            rows = self._load(self.repository, self.repository, name=self.config, split=self.splits[split][0])
        else:
            files = self._find(Path(path).expanduser(), split)
            kind = "parquet" if files[0].endswith(".parquet") else "json"
            rows = self._load(path, kind, data_files={"rows": files}, split="rows")
        self._check_columns(rows, path or self.repository)
        return rows.select_columns(list(self.columns))

    def conversations(
        self, path: str | None, split: str, render: Callable[[dict[str, Any]], list[Message]]
    ) -> datasets.Dataset:
        """The rows of a split as conversations. Raises `InputError` naming the first row that gives no sound one."""
        rows = self.open(path, split)

        def converse(row: dict[str, Any], number: int) -> dict[str, list[Message]]:
            try:
                return {"messages": check_messages(render(row))}
            except InputError as error:
                raise InputError(f"{path or self.repository}, {split} row {number}: {error}") from None

        return rows.map(
            converse,
            with_indices=True,
            remove_columns=rows.column_names,
            features=CONVERSATIONS,
            new_fingerprint=_fingerprint(rows, render),
            desc=f"Read {self.name}",
        )

    def _find(self, root: Path, split: str) -> list[str]:
        """The file `root`, or the split's sorted files below a directory: in the layout of the Hub or side by side."""
        if root.is_file():
            return [str(root)]
        if not root.is_dir():
            raise InputError(f"{self.name}: no such directory: {root}.")
        directories = [root / self.config] if self.config else []
        for directory in [*directories, root / "data", root]:
            for name in self.splits[split]:
                for pattern in PATTERNS:
                    if files := sorted(map(str, directory.glob(pattern.format(name)))):
                        return files
        wanted = ", ".join(pattern.format(self.splits[split][0]) for pattern in PATTERNS)
        raise InputError(f"{self.name}: no file of split {split} in {root}: looked for {wanted}.")

    def _check_columns(self, rows: datasets.Dataset, where: str) -> None:
        if not len(rows):
            raise InputError(f"{where} is empty.")
        for column, kind in self.columns.items():
            if column not in rows.column_names:
                there = ", ".join(rows.column_names)
                raise InputError(f"{where}: no column {column!r}; the columns there are {there}.")
            if _kind(rows.features[column]) != kind:
                raise InputError(f"{where}: column {column!r} holds {_kind(rows.features[column])}, not {kind}.")
            if nulls := rows.data.column(column).null_count:
                raise InputError(f"{where}: column {column!r} is null in {nulls} of {len(rows)} rows.")

    def _load(self, where: str, builder: str, **options: Any) -> datasets.Dataset:
        try:
            return datasets.load_dataset(builder, **options)
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise InputError(f"{self.name}: {where} cannot be read: {reason}") from error


def _fingerprint(rows: datasets.Dataset, render: Callable) -> str:
    """Names the rendered rows in the cache. Left alone, `datasets` would not see a change of what `render` calls."""
    modules = (sys.modules[render.__module__], messages, calculator)
    code = [inspect.getsource(module) for module in modules]
    return Hasher.hash([rows._fingerprint, render.__qualname__, *code])


def _kind(feature: Any) -> str:
    """What a column holds, in a word."""
    if isinstance(feature, dict):
        return "objects"
    if isinstance(feature, datasets.List | datasets.LargeList):
        return "lists"
    if isinstance(feature, datasets.ClassLabel) or feature.dtype.startswith(("int", "uint")):
        return "integers"
    return "text" if feature.dtype in ("string", "large_string") else feature.dtype
