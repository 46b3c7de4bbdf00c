"""Tokenize a corpus into shards, resumably: what `python -m recipes.data.prepare` does.

documents -> token ids -> shards of about `shard_tokens`, each shuffled -> files and a record of progress in a hidden
directory beside the output's -> manifest -> rename.
"""

import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from recipes.data.corpora import Corpus
from recipes.data.packing import READ_CHARACTERS, STREAM_ERRORS
from recipes.data.prepared import FORMAT, MANIFEST, VERSION, sha256_of
from recipes.data.tokenized import COLUMN
from recipes.utils import atomic
from recipes.utils.errors import InputError, in_one_line, writing
from recipes.utils.fingerprint import fingerprint
from recipes.utils.provenance import portable, record_launch
from tokenizer.encode import encode_documents, encoding_fingerprint

READ_DOCUMENTS = 1024  # most documents to tokenize at once: enough for every core
RECORD_BATCH = 4096  # documents that are written, and looked up, at once
PROGRESS = "progress.json"
LARGEST_UINT16 = 2**16 - 1


@dataclass
class SplitFigures:
    """What is known of the shards of a split that are written.

    Attributes:
        lengths: documents of n to 2n - 1 tokens, by n, a power of two.
    """

    documents: int = 0
    tokens: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    shards: list[dict[str, Any]] = field(default_factory=list)

    def add(self, shard: dict[str, Any], documents: list[np.ndarray]) -> None:
        self.documents += shard["documents"]
        self.tokens += shard["tokens"]
        self.shards.append(shard)
        for document in documents:
            bucket = str(1 << (len(document).bit_length() - 1))
            self.lengths[bucket] = self.lengths.get(bucket, 0) + 1
        self.lengths = dict(sorted(self.lengths.items(), key=lambda item: int(item[0])))


def describe_request(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    dataset: str,
    shard_tokens: int,
    max_tokens: int | None,
    seed: int,
) -> dict[str, Any]:
    """The part of the manifest that is known beforehand: all that the shards depend on."""
    files = corpus.files and {"splits": corpus.files.names(), "content": fingerprint(corpus.files.used)}
    largest = max(tokenizer.get_vocab().values())
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": {
            "dataset": portable(dataset),
            "revision": corpus.revision,
            "text_column": corpus.column,
            "document_separator": corpus.document_separator,
            "files": files,
        },
        "tokenizer": {
            "name": portable(tokenizer.name_or_path),
            "vocab_size": len(tokenizer),
            "fingerprint": encoding_fingerprint(tokenizer),
        },
        "dtype": "uint16" if largest <= LARGEST_UINT16 else "int32",
        "seed": seed,
        "shard_tokens": shard_tokens,
        "max_tokens": max_tokens,
    }


def differing(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two requests, as `name: there -> now`; where files and tokenizers lie does not matter."""

    def compared(request: dict[str, Any]) -> dict[str, Any]:
        source, tokenizer = request["source"], request["tokenizer"]
        files = source["files"] and list(source["files"]["content"].values())
        return {
            "dataset": files or (source["dataset"], source["revision"]),
            "tokenizer": tokenizer["fingerprint"],
            **{name: source[name] for name in ("text_column", "document_separator")},
            **{name: request[name] for name in ("seed", "shard_tokens", "max_tokens")},
        }

    def named(request: dict[str, Any], name: str) -> Any:
        if name == "dataset":
            return request["source"]["dataset"]
        return request["tokenizer"]["name"] if name == "tokenizer" else compared(request)[name]

    there, now = json.loads(json.dumps(there)), json.loads(json.dumps(now))
    changed = (name for name, value in compared(now).items() if compared(there)[name] != value)
    return [f"{name}: {named(there, name)} -> {named(now, name)}" for name in changed]


def write_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    request: dict[str, Any],
    output_dir: Path,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Write `output_dir`, which must not exist, and return its manifest.

    Whole shards that an interrupted call left are kept if its `request` was the same. Raises `InputError` for data
    that cannot be read, and when the disk is full.
    """
    beside = output_dir.with_name(f".{output_dir.name}.partial")
    with writing(f"the prepared corpus {output_dir}", lambda: "whole shards are kept"):
        progress = _resume(beside, request, say)
        dtype = np.dtype(request["dtype"])
        if progress["validation"] is None:
            stream = TokenizedStream(corpus.validation, tokenizer, dtype)
            documents = stream.take(request["shard_tokens"])
            validation = SplitFigures()
            validation.add(_write_shard(beside / "validation-00000.arrow", documents, dtype), documents)
            progress["validation"] = asdict(validation)
            _record(beside, progress)
        train = SplitFigures(**progress["train"])
        stream = TokenizedStream(corpus.train, tokenizer, dtype, progress["stream"], progress["used"])
        while (room := _room(request, train)) > 0:
            started = time.perf_counter()
            documents = stream.take(room)
            if not documents:
                break
            number = len(train.shards)
            np.random.default_rng([request["seed"], number]).shuffle(documents)
            shard = _write_shard(beside / f"train-{number:05d}.arrow", documents, dtype)
            train.add(shard, documents)
            progress |= {"train": asdict(train), "stream": stream.state, "used": stream.used}
            _record(beside, progress)
            speed = shard["tokens"] / (time.perf_counter() - started)
            counts = f"{shard['documents']:,} documents, {shard['tokens']:,} tokens"
            say(f"{shard['name']}  {counts}, {speed:,.0f} tokens/s; {train.tokens:,} tokens in all")
        manifest = {**request, "splits": {"train": asdict(train), "validation": progress["validation"]}}
        record_launch(beside, data=request["source"]["dataset"])
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        (beside / PROGRESS).unlink(missing_ok=True)
        atomic.sync_tree(beside)
        beside.rename(output_dir)
        atomic.sync(output_dir.parent)
    return manifest


def _room(request: dict[str, Any], train: SplitFigures) -> int:
    """Tokens that the next training shard may hold."""
    left = request["shard_tokens"] if request["max_tokens"] is None else request["max_tokens"] - train.tokens
    return min(request["shard_tokens"], left)


def _resume(beside: Path, request: dict[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
    """The progress of an interrupted call, or that of a new one in an empty directory."""
    try:
        progress = json.loads((beside / PROGRESS).read_text(encoding="utf-8"))
        changed = differing(progress["request"], request)
        shards = [*progress["train"]["shards"], *((progress["validation"] or {}).get("shards", []))]
        if not changed and all((beside / each["name"]).stat().st_size == each["bytes"] for each in shards):
            say(f"resuming      {len(progress['train']['shards'])} training shards are written already")
            return progress
        why = changed[0] if changed else "a shard is damaged"
    except FileNotFoundError:
        why = None
    except (ValueError, TypeError, LookupError):
        why = f"its {PROGRESS} is damaged"
    if why is not None:
        say(f"starts again  what an interrupted run left in {beside} does not fit ({why})")
    if beside.exists():
        shutil.rmtree(beside)
    beside.mkdir(parents=True)
    empty = {"request": request, "train": asdict(SplitFigures()), "validation": None, "stream": None, "used": 0}
    _record(beside, empty)
    return empty


def _record(beside: Path, progress: dict[str, Any]) -> None:
    atomic.write_text(beside / PROGRESS, json.dumps(progress))


class TokenizedStream:
    """Documents of a stream as token ids, with a place to continue at.

    Attributes:
        state: of the stream before the batch of documents that was read last.
        used: documents of this batch that were taken.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        tokenizer: PreTrainedTokenizerFast,
        dtype: np.dtype,
        state: dict[str, Any] | None = None,
        used: int = 0,
    ) -> None:
        self.stream = copy.deepcopy(stream)  # a `datasets` stream keeps its state in objects that all views share
        if state is not None:
            self.stream.load_state_dict(copy.deepcopy(state))
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.state, self.used = state, used
        self.documents = self._tokenize(self._batches(), skip=used)

    def take(self, tokens: int) -> list[np.ndarray]:
        """The next documents, (n,) each, up to the first with which they have at least `tokens` tokens."""
        taken, count = [], 0
        while count < tokens and (document := next(self.documents, None)) is not None:
            taken.append(document)
            count += len(document)
        return taken

    def _tokenize(self, batches: Iterator[tuple[list[str], Any]], skip: int) -> Iterator[np.ndarray]:
        for texts, state in batches:
            self.state = state
            for used, ids in enumerate(encode_documents(self.tokenizer, texts[skip:]), 1 + skip):
                self.used = used
                yield np.array(ids, dtype=self.dtype)
            skip = 0

    def _batches(self) -> Iterator[tuple[list[str], Any]]:
        """Documents to tokenize at once, and the state of the stream before them."""
        state, texts, characters, read = self.state, [], 0, 0
        try:
            for row in self.stream:
                texts.append(row["text"])
                characters += len(row["text"])
                read += 1
                if len(texts) == READ_DOCUMENTS or characters >= READ_CHARACTERS:
                    after = copy.deepcopy(self.stream.state_dict())
                    yield texts, state
                    state, texts, characters = after, [], 0
        except STREAM_ERRORS as error:
            raise InputError(
                f"the corpus cannot be read beyond document {read:,} of this run "
                f"({in_one_line(error.__cause__ or error)}). "
                "Whole shards are kept: once it can be read, the same command continues."
            ) from error
        if texts:
            yield texts, state


def _write_shard(path: Path, documents: list[np.ndarray], dtype: np.dtype) -> dict[str, Any]:
    """Write documents, and return what the manifest says of the file."""
    schema = pa.schema([(COLUMN, pa.list_(pa.from_numpy_dtype(dtype)))])
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, len(documents), RECORD_BATCH):
            batch = documents[start : start + RECORD_BATCH]
            offsets = np.cumsum([0, *map(len, batch)], dtype=np.int32)
            column = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(batch)))
            writer.write_batch(pa.record_batch([column], schema=schema))
    return {
        "name": path.name,
        "documents": len(documents),
        "tokens": sum(map(len, documents)),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
    }
