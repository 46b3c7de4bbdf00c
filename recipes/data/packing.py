"""Batches of packed rows from a stream of documents: resumable, for any number of processes and loader workers.

documents -> tokenize (`token_ids`) -> pool (`pools.py`) -> rows (`PackedRows`) -> batches (`RowsLoader`). There is no
padding and no attention mask: every token of a batch is trained on, and a row may attend across its documents.
"""

import copy
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.exceptions import DatasetsError
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import PreTrainedTokenizerFast

from recipes.data.pools import POOLS
from recipes.data.shares import Shared, open_share, take_over
from recipes.data.tokenized import TokenizedDocuments
from recipes.utils.errors import InputError, in_one_line
from tokenizer.encode import encode_documents

READ_DOCUMENTS = 128  # most documents to read and tokenize at once,
READ_CHARACTERS = 4_000_000  # or fewer if they are books: reading stops at this many characters
STREAM_ERRORS = (pa.ArrowException, DatasetsError, OSError, UnicodeDecodeError)  # damaged data, or a network failure


def token_ids(documents: dict[str, list], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Token ids of a batch of documents with the column `text`, or `input_ids` if they are tokenized already."""
    if "text" in documents:
        return encode_documents(tokenizer, documents["text"])
    return documents.get("input_ids", [])


class PackedRows(torch.utils.data.IterableDataset):
    """Packed rows of this process's share of a stream of documents, for `epochs` passes (None: endless).

    With `endless` rows go on after these passes, once all that waits is used up.

    A document has a `text`, tokenized as it is read, or the `input_ids` of one that is tokenized already.
    Yields dicts of `tokens`, (row_length,) int64, `epoch`, the epoch (from 0) of the newest document read, and
    `read_to`: where the documents end that were read of a prepared corpus (0 of others).
    Training uses rows of max_seq_len + 1 tokens: inputs are tokens[:-1], targets are tokens[1:].
    Every loader worker of every process is a reader with its own documents. `iter(rows)` has `state_dict()` and
    `load_state_dict()`: the position in the stream, and the documents waiting to be packed.

    Attributes:
        starts: states that readers begin with, by their number.
    """

    def __init__(
        self,
        documents: datasets.IterableDataset | Shared,
        tokenizer: PreTrainedTokenizerFast,
        row_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        packing: str = "best_fit",
        epochs: int | None = None,
        endless: bool = False,
    ):
        if packing not in POOLS:
            raise InputError(f"packing {packing!r} is unknown: choose one of {', '.join(POOLS)}.")
        self.documents = documents
        self.tokenizer = tokenizer
        self.row_length = row_length
        self.rank = rank
        self.world_size = world_size
        self.packing = packing
        self.epochs = epochs
        self.endless = endless
        self.starts: dict[int, dict[str, Any]] = {}

    def __iter__(self) -> "PackedRowsIterator":
        worker = torch.utils.data.get_worker_info()
        workers, worker_id = (worker.num_workers, worker.id) if worker else (1, 0)
        reader = self.rank * workers + worker_id
        rows = PackedRowsIterator(self, reader, num_readers=self.world_size * workers)
        if reader in self.starts:
            rows.load_state_dict(self.starts[reader])
        return rows


class PackedRowsIterator:
    """The rows of one of `num_readers` readers, and its position in the documents.

    Attributes:
        left: states of the stream in later epochs of which readers before this one have read a part, by epoch.
    """

    def __init__(self, rows: PackedRows, reader: int, num_readers: int):
        self.rows = rows
        self.reader = reader
        self.num_readers = num_readers
        self.epoch = 0
        self.documents_read = 0  # of this epoch
        self.tokens_read = 0  # of the first epoch
        self.read_to = 0
        self.left: dict[int, dict[str, Any]] = {}
        self.pool = POOLS[rows.packing](rows.row_length)
        self._open_stream()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        while self._needs_documents() and self._read():
            pass
        row = self.pool.next_row()
        if row is None:
            raise StopIteration
        tokens = torch.from_numpy(row.astype(np.int64))
        return {"tokens": tokens, "epoch": self._epoch_of_newest(), "read_to": self.read_to}

    def _needs_documents(self) -> bool:
        """Whether to read more before the next row.

        A pool that drops nothing is used up before a new epoch begins, and any pool at the end of the last one.
        """
        between_epochs = self.epoch > 0 and self.documents_read == 0
        if between_epochs and (self.epoch == self.rows.epochs or not self.pool.drops_tokens):
            return not self.pool.has_row
        return self.pool.needs_documents

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rows after the last one yielded depend on."""
        return {
            "epoch": self.epoch,
            "documents_read": self.documents_read,
            "tokens_read": self.tokens_read,
            "read_to": self.read_to,
            "stream": self.stream_state,
            "pool": self.pool.state_dict(),
            **({"left": dict(self.left)} if self.left else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.documents_read = state["epoch"], state["documents_read"]
        self.tokens_read = state["tokens_read"]
        self.read_to = state.get("read_to", 0)  # older checkpoints have none
        self.left = dict(state.get("left", {}))
        self.pool.load_state_dict(state["pool"])
        self._open_stream(state["stream"])

    def _open_stream(self, state: dict[str, Any] | None = None) -> None:
        """Continue the stream at `state`, or start an epoch if None."""
        if state is None:
            state = self.left.pop(self.epoch, None)
        self.stream = open_share(self.rows.documents, self.reader, self.num_readers, state)
        # Remembered, since a stream that was just restored reports the state of its start until it is read from.
        self.stream_state = state
        self.documents = self.stream.iter(batch_size=1)

    def _read(self) -> bool:
        """Add some documents to the pool, and start the next epoch when one ends. False after the last epoch."""
        if self.epoch == self.rows.epochs and not self.rows.endless:
            return False
        documents, ended = self._next_documents()
        for ids in token_ids(documents, self.rows.tokenizer):
            self.pool.add(np.array(ids, dtype=np.int32))
            self.tokens_read += len(ids) if self.epoch == 0 else 0
            self.documents_read += 1
        if documents:
            self.read_to = max(self.read_to, getattr(self.stream, "read_to", 0))
        self.stream_state = copy.deepcopy(self.stream.state_dict())
        if ended:  # before anyone saves the state: the state of a stream that has ended starts over
            self._end_epoch()
        return True

    def _next_documents(self) -> tuple[dict[str, list], bool]:
        """The next few documents, by column, and whether the epoch ends with them."""
        documents: dict[str, list] = {}
        characters = 0
        try:
            for count, document in enumerate(self.documents, 1):  # batches of one document
                for column, values in document.items():
                    documents.setdefault(column, []).extend(values)
                characters += sum(map(len, document.get("text", ())))
                if count == READ_DOCUMENTS or characters >= READ_CHARACTERS:
                    return documents, False
        except STREAM_ERRORS as error:  # local files do not get here: recipes/data/readers.py reports their damage
            read = self.documents_read + len(next(iter(documents.values()), ()))
            raise InputError(
                f"the training data cannot be read beyond document {read:,} of {self._reader_name()} "
                f"({in_one_line(error.__cause__ or error)}). Checkpoints are intact: once the data can be read, the "
                "same command continues from the newest."
            ) from error
        return documents, True

    def _end_epoch(self) -> None:
        takes_over = self.stream_state is not None and "parts" in self.stream_state  # then little or nothing was left
        if not takes_over and (self.documents_read == 0 or self.tokens_read < self.rows.row_length):
            raise self._too_small()
        if isinstance(self.rows.documents, TokenizedDocuments):
            self.read_to = len(self.rows.documents)
        self.epoch += 1
        self.documents_read = 0
        self._open_stream()

    def _epoch_of_newest(self) -> int:
        return self.epoch if self.documents_read else max(0, self.epoch - 1)

    def _reader_name(self) -> str:
        return f"reader {self.reader + 1} of {self.num_readers}"

    def _too_small(self) -> InputError:
        if self.documents_read == 0:
            return InputError(
                f"dataset too small: fewer documents than the {self.num_readers} readers (processes x workers). "
                "Use fewer of them, or more data."
            )
        return InputError(
            f"dataset too small: {self.documents_read} documents for {self._reader_name()} do not "
            f"fill one row of {self.rows.row_length} tokens. Use a shorter max_seq_len, fewer readers (processes x "
            "workers), or more data."
        )


def count_rows(lengths: Sequence[int], row_length: int, packing: str = "best_fit") -> int:
    """Number of rows that one reader packs from one pass over documents of these `lengths`, without their tokens."""
    pool, rows, waiting = POOLS[packing](row_length), 0, iter(lengths)
    blank = np.zeros(max(lengths, default=0), dtype=np.int32)
    while True:
        while pool.needs_documents and (read := list(islice(waiting, READ_DOCUMENTS))):  # as `_read` does
            for length in read:
                pool.add(blank[:length])
        if pool.next_row() is None:
            return rows
        rows += 1


class RowsLoader(StatefulDataLoader):
    """Batches of packed rows. The state includes the number of processes and workers that it is valid for; those of
    another number of them are taken over by `take_over`.

    Attributes:
        read_to: where the documents end that were read of a prepared corpus for the batches so far.
    """

    def __init__(self, rows: PackedRows, batch_size: int, num_workers: int):
        self.read_to = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata 0.11 on torch 2.13
            super().__init__(
                rows,
                batch_size=batch_size,
                num_workers=num_workers,
                collate_fn=_collate,
                worker_init_fn=_leave_stopping_to_main,
                pin_memory=torch.cuda.is_available(),
                # Not torch's global generator: a loader made on resuming would change the run's random numbers.
                generator=torch.Generator(),
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in super().__iter__():
                self.read_to = max(self.read_to, batch["read_to"])
                yield batch
        except InputError as error:
            # Release the workers now: left to the garbage collector, each takes 5 s to stop.
            error.__traceback__ = None
            super().load_state_dict({})
            raise InputError(_without_traceback(error)) from None

    def state_dict(self) -> dict[str, Any]:
        return {**self._readers(), "read_to": self.read_to, "loader": super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue exactly. Raises `InputError` if processes, workers or packing differ from when it was saved."""
        self._check(state_dict, self._readers())
        self.read_to = state_dict.get("read_to", 0)
        super().load_state_dict(state_dict["loader"])

    def take_over(self, state_dicts: Sequence[dict[str, Any]]) -> None:
        """Go on from the states of all processes of a run that had another number of them, or of workers.

        Documents are read once an epoch all the same. Raises `InputError` if the packing differs.
        """
        for state in state_dicts:
            self._check(state, {name: self._readers()[name] for name in ("packing", "corpus")})
        states = [state for each in state_dicts for state in _states_of_readers(each["loader"])]
        rows, readers = self.dataset, max(1, self.num_workers)
        rows.starts = {
            reader: take_over(
                states,
                reader,
                rows.world_size * readers,
                tokenized=not isinstance(rows.documents, datasets.IterableDataset),
                pool=POOLS[rows.packing](rows.row_length),
            )
            for reader in range(rows.rank * readers, (rows.rank + 1) * readers)
        }
        self.read_to = max(state.get("read_to", 0) for state in state_dicts)

    def _check(self, state_dict: dict[str, Any], readers: dict[str, int | str]) -> None:
        for name, now in readers.items():
            if state_dict.get(name, now) != now:
                raise InputError(
                    f"the position in the data was saved with {name} {state_dict[name]} and does not fit "
                    f"{name} {now}: resume with {name} {state_dict[name]}."
                )

    def _readers(self) -> dict[str, int | str]:
        return {
            "world_size": self.dataset.world_size,
            "num_workers": self.num_workers,
            "packing": self.dataset.packing,
            "corpus": "prepared" if isinstance(self.dataset.documents, TokenizedDocuments) else "streamed",
        }


def build_rows_loader(
    documents: datasets.IterableDataset | Shared,
    tokenizer: PreTrainedTokenizerFast,
    row_length: int,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    packing: str = "best_fit",
    epochs: int | None = None,
    endless: bool = False,
) -> RowsLoader:
    """Resumable batches of packed rows: `tokens`, (B, row_length) int64; the largest `epoch` and `read_to` in it.

    `epochs` and `endless` are those of `PackedRows`; where rows end, the last batch of each worker may be smaller.
    Raises `InputError` for an unknown packing; iterating raises it for damaged data, and for a dataset too small to
    give every worker of every process a row.
    """
    if num_workers > 0:
        # The workers run in parallel already, and the tokenizer's threads do not survive a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    rows = PackedRows(
        documents,
        tokenizer,
        row_length,
        rank=rank,
        world_size=world_size,
        packing=packing,
        epochs=epochs,
        endless=endless,
    )
    return RowsLoader(rows, batch_size, num_workers)


def _states_of_readers(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of a process's readers, in that of torchdata's loader: of the workers, or of the only one."""
    if "_snapshot" not in state:
        return [state["fetcher_state"]["dataset_iter_state"]]
    workers = state["_snapshot"]["_worker_snapshots"]
    return [workers[f"worker_{number}"]["fetcher_state"]["dataset_iter_state"] for number in range(len(workers))]


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    newest = {name: max(row[name] for row in rows) for name in ("epoch", "read_to")}
    return {"tokens": torch.stack([row["tokens"] for row in rows]), **newest}


def _leave_stopping_to_main(worker_id: int) -> None:
    """Ignore Ctrl-C and SIGTERM, which reach all processes of a terminal or job: the main process handles them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _without_traceback(error: InputError) -> str:
    """The message of an error in a worker, which torch embeds in the text of the worker's traceback."""
    return str(error).rpartition(f"{InputError.__module__}.{InputError.__qualname__}: ")[2].strip()
