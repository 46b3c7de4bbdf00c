"""Fingerprints of what a run reads: files by size and hash, wherever they lie, and rows that have no local file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import try_to_load_from_cache

from recipes.data.conversations import MIXTURE, conversation_files
from recipes.data.corpora import Corpus
from recipes.data.files import find_files
from recipes.data.mixtures import read_mixture
from recipes.utils.fingerprint import Fingerprint, fingerprint

ROWS, DOCUMENTS = " rows", " documents"  # of a split, as the names of files end
SEPARATED = "documents of plain text"
SAMPLE = 1000  # rows or documents at either end
# The files of a model's directory that decide what is trained from it.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja")
MODEL_FILES = ("config.json", "*.safetensors", "pytorch_model*.bin", *TOKENIZER_FILES)


def fingerprint_model(name: str, patterns: Sequence[str] = MODEL_FILES) -> Fingerprint:
    """Of a model's directory, or of the snapshot in the cache of a Hub id; or of a config file alone."""
    if Path(name).is_file():
        return fingerprint([name])
    directory = Path(name) if Path(name).is_dir() else _snapshot(name)
    if directory is None:
        return {}
    return fingerprint(sorted(path for pattern in patterns for path in directory.glob(pattern)))


def _snapshot(name: str) -> Path | None:
    """Where the cache holds the files of a Hub id, as they were just loaded."""
    found = (try_to_load_from_cache(name, file) for file in ("config.json", "tokenizer_config.json"))
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def fingerprint_tokenizer(name: str) -> Fingerprint:
    """Of a tokenizer's directory or Hub id."""
    return fingerprint_model(name, TOKENIZER_FILES)


def fingerprint_corpus(corpus: Corpus) -> Fingerprint:
    """Of its files; without any, of the primer's documents, or of the first ones that the Hub streams.

    And of where documents of plain text end, if that was chosen. Of a prepared corpus it is what the manifest says of
    its shards, once they were read and found to be those. Raises `InputError` naming a shard that is damaged.
    """
    if corpus.prepared:
        corpus.prepared.verify()
        return {
            shard.path.name: {"size": shard.bytes, "sha256": shard.sha256}
            for shard in (*corpus.prepared.train.shards, *corpus.prepared.validation.shards)
        }
    separated = {SEPARATED: {"by": corpus.document_separator}} if corpus.document_separator != "auto" else {}
    if corpus.files:
        return fingerprint(corpus.files.used) | separated
    count = None if corpus.name == "primer" else SAMPLE
    streams = {"train": corpus.train, "validation": corpus.validation}
    rows = {
        f"{split}{DOCUMENTS}": _fingerprint_rows([row["text"] for row in islice(stream, count)])
        for split, stream in streams.items()
    }
    return rows | separated


def fingerprint_inputs(corpus: Corpus, tokenizer: str, models: Mapping[str, str | None]) -> dict[str, Fingerprint]:
    """Of all that pretraining reads, by the arguments that name it; `models` that are None are left out."""
    named = {name: fingerprint_model(model) for name, model in models.items() if model is not None}
    return {"dataset": fingerprint_corpus(corpus), "tokenizer": fingerprint_tokenizer(tokenizer)} | named


def fingerprint_chat(
    source: str, conversations: str, splits: Mapping[str, datasets.Dataset]
) -> dict[str, Fingerprint]:
    """Of all that midtraining and SFT read: the model they start from, and the conversations by split."""
    return {"source": fingerprint_model(source), "conversations": fingerprint_conversations(conversations, **splits)}


def fingerprint_conversations(spec: str, **splits: datasets.Dataset) -> Fingerprint:
    """Of the files that `spec` of conversations or problems names, and of the rows of each split that came of it."""
    rows = {f"{split}{ROWS}": _fingerprint_dataset(dataset) for split, dataset in splits.items()}
    return _fingerprint_spec(spec) | rows


def _fingerprint_spec(spec: str) -> Fingerprint:
    """Of a user's files, and of the entries of a mixture; nothing of what has no file here."""
    if spec.lower().endswith(MIXTURE):
        parts = read_mixture(spec)
        # Where the files lie does not matter.
        entries = [
            replace(part, path=None, source="" if conversation_files(part.source) else part.source) for part in parts
        ]
        files = [(number, _fingerprint_spec(part.spec)) for number, part in enumerate(parts, 1)]
        within = {f"entry {number}: {name}": each for number, found in files for name, each in found.items()}
        return {Path(spec).name: _fingerprint_rows(list(map(asdict, entries))), **within}
    if files := conversation_files(spec):
        return fingerprint(files.used)
    path = Path(spec.partition(":")[2]).expanduser()  # of a source's local files
    return fingerprint(find_files(str(path))) if path.name and path.exists() else {}


def _fingerprint_dataset(dataset: datasets.Dataset) -> dict[str, Any]:
    """Of the number of rows, and the first and last of them, which are a random sample once rows are shuffled."""
    count = len(dataset)
    ends = [*range(min(SAMPLE, count)), *range(max(SAMPLE, count - SAMPLE), count)]
    return {**_fingerprint_rows(dataset.select(ends).to_list()), "count": count}


def _fingerprint_rows(rows: list[Any]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return {"count": len(rows), "sha256": digest.hexdigest()}


def differences(there: Fingerprint, now: Fingerprint) -> list[str]:
    """What has changed from `there` to `now`, file by file; nothing where only names or places have.

    Of rows only where all files are the same: they follow from them.
    """
    if list(there.values()) == list(now.values()):
        return []
    changes = {}
    for name in dict.fromkeys([*there, *now]):
        if there.get(name) != now.get(name):
            changes[name] = _change(there.get(name), now.get(name))
    files = [name for name in changes if not name.endswith(ROWS)]
    return [f"{name}: {changes[name]}" for name in files or changes] or ["its files come in another order"]


def _change(there: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """How one file differs: by being there, by its size, or by its bytes."""
    if there is None or now is None:
        return "new" if there is None else "missing"
    for unit in ("size", "count"):
        if there.get(unit) != now.get(unit):
            return f"{unit} {there.get(unit, 0):,} -> {now.get(unit, 0):,}"
    if "by" in there:
        return f"separated by {there['by']} -> {now['by']}"
    return "other content"
