"""Mixtures of conversations: a YAML list of sources, each with a number of epochs or a weight."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import datasets

from recipes.utils.errors import InputError, suggest
from recipes.utils.yaml_files import read_yaml

MIXTURES = Path(__file__).parents[1] / "configs" / "mixtures"  # mixtures that come with the recipes


@dataclass(frozen=True)
class Part:
    """One entry of a mixture.

    Args:
        source: anything that `open_conversations` opens, except another mixture.
        path: local files of the source.
        epochs: how often each conversation is seen (2.5: half of them a third time); None means once.
        weight: share of the source in the mixture, relative to the other weights. Then every entry needs one, and the
            mixture is as large as possible without repeating a conversation.
        rows: use at most this many of the source's conversations.
    """

    source: str
    path: str | None = None
    epochs: float | None = None
    weight: float | None = None
    rows: int | None = None

    @property
    def spec(self) -> str:
        """The name that `open_conversations` takes."""
        return self.source if self.path is None else f"{self.source}:{self.path}"


def read_mixture(path: str) -> list[Part]:
    """Read the entries of a mixture. Raises `InputError` naming the file and the entry that is wrong."""
    entries = read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: a mixture is a list of entries such as `- source: gsm8k`.")
    parts = [_read_part(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, 1)]
    weighted = sum(part.weight is not None for part in parts)
    if weighted not in (0, len(parts)):
        raise InputError(f"{path}: {weighted} of {len(parts)} entries have a weight; give one to all, or epochs.")
    return parts


def _read_part(entry: Any, place: str) -> Part:
    known = [field.name for field in dataclasses.fields(Part)]
    if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
        raise InputError(f"{place} names no source.")
    for key, value in entry.items():
        if key not in known:
            raise InputError(f"{place}: unknown key {key}: {suggest(str(key), known)}")
        if key in ("epochs", "weight", "rows"):
            kind, what = (int, "a whole number") if key == "rows" else (Real, "a number")
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < float("inf"):
                raise InputError(f"{place}: {key} is {value!r} where {what} above 0 is expected.")
        elif not isinstance(value, str) or not value.strip():
            raise InputError(f"{place}: {key} is {value!r} where text is expected.")
    if "epochs" in entry and "weight" in entry:
        raise InputError(f"{place} has both epochs and a weight: choose one.")
    return Part(**entry)


def mix(parts: Sequence[Part], sources: Sequence[datasets.Dataset], seed: int, repeat: bool) -> datasets.Dataset:
    """The conversations of `sources` by the epochs or weights of `parts`, one source after the other.

    Without `repeat`, for held-out data, no conversation is taken twice, whatever its epochs.
    """
    sizes = [min(part.rows or len(source), len(source)) for part, source in zip(parts, sources, strict=True)]
    if parts[0].weight is not None:
        scale = min(size / part.weight for part, size in zip(parts, sizes, strict=True))
        counts = [scale * part.weight for part in parts]
    else:
        epochs = [part.epochs or 1 for part in parts]
        counts = [size * (each if repeat else min(each, 1)) for size, each in zip(sizes, epochs, strict=True)]
    taken = [
        take(source, size, max(1, round(count)), seed)
        for source, size, count in zip(sources, sizes, counts, strict=True)
    ]
    return datasets.concatenate_datasets(taken)


def take(source: datasets.Dataset, size: int, count: int, seed: int) -> datasets.Dataset:
    """`count` rows from a random choice of `size` of the source's rows, each repeated equally often (+-1)."""
    chosen = shuffle(source, seed).select(range(size))
    epochs = [chosen] * (count // size)
    return datasets.concatenate_datasets([*epochs, chosen.select(range(count % size))])


def shuffle(dataset: datasets.Dataset, seed: int) -> datasets.Dataset:
    """The rows in random order, which depends on their number and the seed only."""
    return dataset.shuffle(seed=seed, keep_in_memory=True)
