"""Prepared corpora: a directory of tokenized documents, train and validation fixed forever by its manifest."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from recipes.data.tokenized import Shard, TokenizedDocuments
from recipes.utils.errors import InputError
from tokenizer.encode import encoding_fingerprint

MANIFEST = "manifest.json"
FORMAT, VERSION = "tokenized documents", 1
SHARD = re.compile(r"(train|validation)-\d{5,}\.arrow")
AGAIN = "put it back, or prepare the corpus again"
HASHED_AT_ONCE = 4  # shards, each by a thread: hashing does not hold Python's lock


@dataclass(frozen=True)
class PreparedCorpus:
    """What `python -m recipes.data.prepare` left in `directory`: its manifest, and the documents of both splits."""

    directory: Path
    manifest: dict[str, Any]
    train: TokenizedDocuments
    validation: TokenizedDocuments

    @property
    def source(self) -> str:
        """Name of the corpus that it was made from."""
        return self.manifest["source"]["dataset"]

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Raise `InputError` unless `tokenizer` is the one that made the tokens, wherever it lies."""
        made_by = self.manifest["tokenizer"]
        if encoding_fingerprint(tokenizer) != made_by["fingerprint"]:
            raise InputError(
                f"{self.directory} was made by the tokenizer {made_by['name']} of {made_by['vocab_size']:,} tokens. "
                f"{tokenizer.name_or_path} of {len(tokenizer):,} is another: give that one by --tokenizer, or prepare "
                "the corpus with this one."
            )

    def verify(self) -> None:
        """Read all shards. Raises `InputError` naming the first whose bytes are not those that were written."""
        shards = (*self.train.shards, *self.validation.shards)
        with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
            for shard, digest in zip(shards, pool.map(sha256_of, (shard.path for shard in shards)), strict=True):
                if digest != shard.sha256:
                    raise InputError(f"{shard.path} is damaged (it has other bytes than were written): {AGAIN}.")

    def line(self, documents: TokenizedDocuments) -> str:
        """One line for people: where the documents come from, and where reading them begins."""
        files = "1 shard" if len(self.train.shards) == 1 else f"{len(self.train.shards):,} shards"
        made_of = f"{self.directory}, prepared from {self.source}"
        held_out = f"held out for validation: {self.validation.tokens:,} tokens"
        line = f"trained on {made_of} ({len(self.train):,} documents in {files}); {held_out}"
        if documents.first == 0:
            return line
        skipped = documents.tokens_before(documents.first)
        whose = "that earlier runs have read" if documents.earlier else "skipped"
        return (
            f"{line}; begins at document {documents.first:,}, after {skipped:,} tokens {whose}, and begins there "
            "again when it comes to the end"
        )


def find_prepared(dataset: str) -> PreparedCorpus | None:
    """The prepared corpus in a directory; None if it is anything else. Reads no tokens.

    Raises `InputError` if its manifest is missing, damaged or of another version, or a shard is missing or has another
    size than the manifest says.
    """
    directory = Path(dataset).expanduser()
    if not directory.is_dir():
        return None
    path = directory / MANIFEST
    has_shards = any(SHARD.fullmatch(entry.name) for entry in directory.iterdir())
    if not has_shards and not (path.is_file() and _is_ours(path)):
        return None
    if not path.exists():
        raise InputError(f"{directory} holds shards of a prepared corpus, and no {MANIFEST} of them: {AGAIN}.")
    return _read(directory)


def _is_ours(path: Path) -> bool:
    """Whether a file is a manifest of ours: others may have files of this name among their data."""
    try:
        return json.loads(path.read_bytes())["format"] == FORMAT
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False


def _read(directory: Path) -> PreparedCorpus:
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
        if manifest["format"] == FORMAT and manifest["version"] != VERSION:
            raise InputError(
                f"{path} is of version {manifest['version']}, and this program reads version {VERSION}: use the "
                "program that wrote it, or prepare the corpus again."
            )
        digest = hashlib.sha256(content).hexdigest()
        splits = [
            TokenizedDocuments(
                tuple(_shard(directory, **each) for each in manifest["splits"][split]["shards"]), digest
            )
            for split in ("train", "validation")
        ]
        corpus = PreparedCorpus(directory, manifest, *splits)
        whole = all(
            (len(split), split.tokens) == (manifest["splits"][name]["documents"], manifest["splits"][name]["tokens"])
            for name, split in zip(("train", "validation"), splits, strict=True)
        )
        named = isinstance(corpus.source, str) and isinstance(manifest["tokenizer"]["vocab_size"], int)
        if not (whole and named and manifest["format"] == FORMAT and manifest["tokenizer"]["fingerprint"]):
            raise ValueError("its figures do not fit together")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): {AGAIN}.") from None
    for shard in (*corpus.train.shards, *corpus.validation.shards):
        _check_size(shard)
    return corpus


def _shard(directory: Path, name: str, documents: int, tokens: int, bytes: int, sha256: str) -> Shard:
    if not SHARD.fullmatch(name):
        raise ValueError(f"a shard called {name!r:.60}")
    if not all(isinstance(number, int) and number >= 0 for number in (documents, tokens, bytes)):
        raise ValueError(f"the figures of {name}")
    return Shard(directory / name, documents, tokens, bytes, sha256)


def _check_size(shard: Shard) -> None:
    try:
        size = shard.path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{shard.path}, which the manifest names, is missing: {AGAIN}.") from None
    except OSError as error:
        raise InputError(f"{shard.path} cannot be read: {error.strerror}.") from None
    if size != shard.bytes:
        raise InputError(f"{shard.path} is damaged (it has {size:,} of {shard.bytes:,} bytes): {AGAIN}.")


def sha256_of(path: Path) -> str:
    """Hash of a whole file, at 1 to 2 GB/s."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()
