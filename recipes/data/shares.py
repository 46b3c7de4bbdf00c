"""Who reads which documents of an epoch, and how other readers go on with what is left of it.

A run resumed with another number of processes or loader workers has other readers. What each of the old ones had left
of its share is a `Part`: its place in the stream, as it was saved. The new readers share the parts out (`deal`), and
cut them, every k-th document to another, where there are too few. A cut part can be cut again, so that it does not
matter how often the readers change before the epoch ends. The next epoch is divided among its readers as ever.
"""

import copy
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import datasets
from datasets.distributed import split_dataset_by_node


class Stream(Protocol):
    """Documents in order, by column, with a position. `read_to` is counted only where documents are numbered."""

    def iter(self, batch_size: int) -> Iterator[dict[str, list]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Pool(Protocol):
    """What waits to be packed: see recipes/data/pools.py."""

    def take_over(self, states: Sequence[dict[str, Any]], number: int, pools: int) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...


class Shared(Protocol):
    """Documents that were tokenized before. Passing over some costs nothing: each reader may look for its own."""

    def share(self, reader: int, num_readers: int) -> Stream: ...


def open_share(
    documents: datasets.IterableDataset | Shared, reader: int, num_readers: int, state: dict[str, Any] | None = None
) -> Stream:
    """The documents of one of `num_readers` readers, with a position of their own: from `state` on, if it is given."""
    if state is not None and "parts" in state:
        return Leftovers(documents, state["parts"])
    if isinstance(documents, datasets.IterableDataset):
        # A copy, because a `datasets` stream keeps its state in objects that all views of the dataset share.
        documents = copy.deepcopy(documents)
        # Split by file if there are enough files: split by document, every reader would read (or download) all data.
        strategy = "shards" if documents.num_shards >= num_readers else "auto"
        stream = split_dataset_by_node(documents, reader, num_readers, strategy=strategy)
    else:
        stream = documents.share(reader, num_readers)
    if state is not None:
        stream.load_state_dict(copy.deepcopy(state))
    return stream


def describe_sharing(documents: datasets.IterableDataset | Shared, num_readers: int) -> str:
    """That readers have to read the same files, if there are fewer files than readers; else nothing."""
    if not isinstance(documents, datasets.IterableDataset) or documents.num_shards >= num_readers:
        return ""
    files = "1 file" if documents.num_shards == 1 else f"{documents.num_shards} files"
    return f"; {files} for {num_readers} readers (processes x workers): each reads everything, and keeps its share"


@dataclass(frozen=True)
class Part:
    """What is left of the share of one of `num_readers` readers, or every `stride`-th document of that.

    Args:
        position: state of the share's stream; None at its beginning.
        skip: documents after the position that are others'.
    """

    reader: int
    num_readers: int
    position: dict[str, Any] | None = None
    skip: int = 0
    stride: int = 1

    def piece(self, number: int, pieces: int) -> "Part":
        """One of `pieces` that take turns, document by document."""
        return replace(self, skip=self.skip + number * self.stride, stride=self.stride * pieces)


class OpenPart:
    """A part that is read, one document at a time."""

    def __init__(self, documents: datasets.IterableDataset | Shared, part: Part) -> None:
        self.documents, self.part = documents, part
        self.stream: Stream | None = None  # until the first document is asked for: a stream may have to be opened

    def next_document(self) -> dict[str, list] | None:
        """The next document, by column; None at the end."""
        part = self.part
        if self.stream is None:
            self.stream = open_share(self.documents, part.reader, part.num_readers, part.position)
            self.batches, skip = self.stream.iter(batch_size=1), part.skip
        else:
            skip = part.stride - 1
        document = next(self.batches, None)
        while skip and document is not None:
            document, skip = next(self.batches, None), skip - 1
        return document

    def left(self) -> Part:
        """What is left of the part after the documents so far."""
        if self.stream is None:
            return self.part
        return replace(self.part, position=self.stream.state_dict(), skip=self.part.stride - 1)


class Leftovers:
    """A reader's parts of an epoch, one document of each in turn, with the state of a `datasets` stream.

    In turn, so that all parts end at about the same time, and may be dealt out once more before that.
    """

    def __init__(self, documents: datasets.IterableDataset | Shared, parts: Sequence[dict[str, Any]]) -> None:
        self.parts = deque(OpenPart(documents, Part(**part)) for part in parts)
        self.read_to = 0

    def iter(self, batch_size: int) -> Iterator[dict[str, list]]:
        """The documents one by one, whatever the `batch_size`."""
        while self.parts:
            part = self.parts[0]
            document = part.next_document()
            self.read_to = max(self.read_to, getattr(part.stream, "read_to", 0))
            if document is None:
                self.parts.popleft()
            else:
                self.parts.rotate(-1)
                yield document

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [asdict(part.left()) for part in self.parts]}


def take_over(
    states: Sequence[dict[str, Any]], reader: int, num_readers: int, tokenized: bool, pool: Pool
) -> dict[str, Any]:
    """The state with which one of `num_readers` readers goes on from the `states` of all earlier ones, in their order.

    No document is read twice in its epoch, and none is left out. Those that wait to be packed are dealt out one by one
    (through `pool`): all readers are to make equally many rows, and in a small corpus most documents wait.
    """
    pool.take_over([state["pool"] for state in states], reader, num_readers)
    first = min(state["epoch"] for state in states)  # some were ahead, perhaps by an epoch that others had not begun
    last = max(epoch for state in states for epoch in (state["epoch"], *state.get("left", ())))
    left = {}
    for epoch in range(first, last + 1):
        parts = [part for old, state in enumerate(states) for part in parts_left(state, epoch, old, len(states))]
        left[epoch] = {"parts": [asdict(part) for part in deal(parts, reader, num_readers, tokenized)]}
    read = sum(state["documents_read"] for state in states if state["epoch"] == first)
    return {
        "epoch": first,
        "documents_read": -(-read // num_readers),
        "tokens_read": max(state["tokens_read"] for state in states),
        "read_to": max(state.get("read_to", 0) for state in states),
        "stream": left.pop(first),
        "left": left,
        "pool": pool.state_dict(),
    }


def parts_left(state: dict[str, Any], epoch: int, reader: int, num_readers: int) -> list[Part]:
    """What one of `num_readers` readers in this `state` has left of an `epoch`."""
    if state["epoch"] > epoch:
        return []
    stream = state["stream"] if state["epoch"] == epoch else state.get("left", {}).get(epoch)
    if stream is not None and "parts" in stream:
        return [Part(**part) for part in stream["parts"]]
    return [Part(reader, num_readers, stream)]


def deal(parts: Sequence[Part], reader: int, num_readers: int, tokenized: bool) -> list[Part]:
    """One reader's parts.

    Who has a piece of a part reads all of it. Text is cut only where there are fewer parts than readers; what is
    tokenized, so that all readers get as much.
    """
    if not parts:
        return []
    pieces = num_readers // math.gcd(len(parts), num_readers) if tokenized else -(-num_readers // len(parts))
    return [part.piece(number, pieces) for number in range(pieces) for part in parts][reader::num_readers]
