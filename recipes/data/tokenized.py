"""Documents as token ids in memory-mapped shards (Arrow streams), which readers share out among them."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recipes.utils.errors import InputError, in_one_line

COLUMN = "input_ids"
OPEN_SHARDS = 4  # that a process keeps mapped


@dataclass(frozen=True)
class Shard:
    """One file of documents, as the manifest describes it."""

    path: Path
    documents: int
    tokens: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TokenizedDocuments:
    """The documents of a split in the manifest's order, numbered from 0. Pickling it copies no tokens.

    Args:
        first: where reading begins, in the first epoch and in all later ones.
        manifest: sha256 of the manifest.
        earlier: ranges [first, end) of the documents that the runs before this one have read.
    """

    shards: tuple[Shard, ...]
    manifest: str = ""
    first: int = 0
    earlier: tuple[tuple[int, int], ...] = field(default=())

    num_shards = 1  # as a stream of `datasets`: it is shared out by document, not by file

    @cached_property
    def starts(self) -> list[int]:
        """Number of the first document of each shard, and of all documents."""
        return list(accumulate((shard.documents for shard in self.shards), initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    @cached_property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return sum(shard.tokens for shard in self.shards)

    def begin_at(self, first: int, earlier: Sequence[Sequence[int]] = ()) -> "TokenizedDocuments":
        """The same documents, read from number `first` on."""
        return replace(self, first=first, earlier=tuple((begin, end) for begin, end in earlier))

    def share(self, reader: int, num_readers: int) -> "Share":
        """Every `num_readers`-th document from the first one on, the `reader`-th of each round."""
        return Share(self, reader, num_readers)

    def iter(self, batch_size: int) -> Iterator[dict[str, list[np.ndarray]]]:
        """All documents from the first one on, in batches."""
        return self.share(0, 1).iter(batch_size)

    def tokens_before(self, document: int) -> int:
        """Tokens of the documents before number `document`."""
        number = bisect_right(self.starts, document, hi=len(self.shards)) - 1
        whole = sum(shard.tokens for shard in self.shards[:number])
        within = document - self.starts[number]
        return whole + (open_shard(self.shards[number]).tokens_before(within) if within else 0)

    def document_after(self, tokens: int) -> int:
        """Number of the first document that has at least `tokens` tokens before it; len(self) if there is none."""
        for number, shard in enumerate(self.shards):
            if tokens <= 0:
                return self.starts[number]
            if tokens < shard.tokens:
                return self.starts[number] + open_shard(shard).document_after(tokens)
            tokens -= shard.tokens
        return len(self)

    def lengths(self, most: int) -> list[int]:
        """Lengths of the first `most` documents that are read."""
        return [len(document) for document in islice(self.share(0, 1), most)]


class Share:
    """The documents of one of several readers, from its position on, with the state of a `datasets` stream.

    A reader opens a shard only when it comes to it, so restoring a position reads nothing before it.
    """

    def __init__(self, documents: TokenizedDocuments, reader: int, num_readers: int) -> None:
        self.documents = documents
        self.num_readers = num_readers
        self.position = documents.first + reader  # number of the next document

    @property
    def read_to(self) -> int:
        """One more than the number of the newest document read."""
        return max(self.documents.first, self.position - self.num_readers + 1)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Documents, (n,) of the shards' integer type: views of the files."""
        documents = self.documents
        while self.position < len(documents):
            number = bisect_right(documents.starts, self.position) - 1
            opened = open_shard(documents.shards[number])
            start = documents.starts[number]
            while self.position < documents.starts[number + 1]:
                document = opened[self.position - start]
                self.position += self.num_readers
                yield document

    def iter(self, batch_size: int) -> Iterator[dict[str, list[np.ndarray]]]:
        documents = iter(self)
        while batch := list(islice(documents, batch_size)):
            yield {COLUMN: batch}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "position" not in state:
            raise InputError(
                "the position in the data was saved by a run that read text, not a prepared corpus: give the dataset "
                "that it read."
            )
        self.position = state["position"]


class OpenShard:
    """A memory-mapped shard. Raises `InputError` if it is not what its `Shard` says."""

    def __init__(self, shard: Shard) -> None:
        try:
            column = pa.ipc.open_stream(pa.memory_map(os.fspath(shard.path))).read_all()[COLUMN]
            self.chunks = [
                (np.asarray(chunk.offsets), chunk.values.to_numpy(zero_copy_only=True)) for chunk in column.chunks
            ]
        except (pa.ArrowException, OSError, LookupError, AttributeError) as error:
            raise InputError(
                f"{shard.path} is damaged ({in_one_line(error)}): put it back, or prepare the corpus again."
            ) from None
        self.starts = list(accumulate((len(offsets) - 1 for offsets, _ in self.chunks), initial=0))
        self.token_starts = list(accumulate((len(values) for _, values in self.chunks), initial=0))
        there = self.starts[-1], self.token_starts[-1]
        if there != (shard.documents, shard.tokens):
            raise InputError(
                f"{shard.path} holds {there[0]:,} documents of {there[1]:,} tokens, and by its manifest "
                f"{shard.documents:,} of {shard.tokens:,}: put back the files that belong together, or prepare the "
                "corpus again."
            )
        self.newest = 0  # chunk: documents come in order

    def __getitem__(self, document: int) -> np.ndarray:
        if not self.starts[self.newest] <= document < self.starts[self.newest + 1]:
            self.newest = bisect_right(self.starts, document) - 1
        offsets, values = self.chunks[self.newest]
        within = document - self.starts[self.newest]
        return values[offsets[within] : offsets[within + 1]]

    def tokens_before(self, document: int) -> int:
        chunk = bisect_right(self.starts, document, hi=len(self.chunks)) - 1
        return self.token_starts[chunk] + int(self.chunks[chunk][0][document - self.starts[chunk]])

    def document_after(self, tokens: int) -> int:
        """Number within the shard of the first document that has at least `tokens` tokens before it."""
        chunk = bisect_right(self.token_starts, tokens, hi=len(self.chunks)) - 1
        within = np.searchsorted(self.chunks[chunk][0], tokens - self.token_starts[chunk])
        return self.starts[chunk] + int(within)


@lru_cache(OPEN_SHARDS)
def open_shard(shard: Shard) -> OpenShard:
    """A shard, mapped into memory once a process."""
    return OpenShard(shard)
