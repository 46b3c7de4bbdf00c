"""Rows of exactly `row_length` tokens out of documents of any length: no padding, every token trained."""

import copy
import os
import signal
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import PreTrainedTokenizerFast

from recipes.errors import InputError
from tokenizer.encode import encode_documents


def pack_best_fit(documents: list[np.ndarray], row_length: int) -> np.ndarray:
    """Pack token arrays into rows, (R, row_length), each of which starts with the start of a document.

    A row takes the longest waiting document that fits the room left; when none fits, the shortest is cropped to fill
    it, and what was cut off is dropped. The last row is dropped if it is not full. O(n log n).
    """
    waiting: dict[int, list[np.ndarray]] = {}  # by length, first come first served
    for document in reversed(documents):
        waiting.setdefault(len(document), []).append(document)
    lengths = sorted(waiting)
    packed = np.empty(sum(map(len, documents)), dtype=np.int64)
    filled = 0
    while lengths:
        room = row_length - filled % row_length
        position = max(bisect_right(lengths, room) - 1, 0)
        same_length = waiting[lengths[position]]
        document = same_length.pop()[:room]
        if not same_length:
            del lengths[position]
        packed[filled : filled + len(document)] = document
        filled += len(document)
    return _full_rows(packed[:filled], row_length)


def pack_concatenated(documents: list[np.ndarray], row_length: int) -> np.ndarray:
    """Join token arrays end to end and cut them into rows, (R, row_length): a row may start inside a document.

    Nothing is dropped but the last row if it is not full.
    """
    return _full_rows(np.concatenate([np.empty(0, dtype=np.int64), *documents]), row_length)


def _full_rows(tokens: np.ndarray, row_length: int) -> np.ndarray:
    return tokens[: len(tokens) // row_length * row_length].reshape(-1, row_length)


PACKERS = {"best_fit": pack_best_fit, "concatenated": pack_concatenated}


class PackedRows(torch.utils.data.IterableDataset):
    """Packed rows of a stream of documents: this process's share of them, `epochs` times over (None: for ever).

    Yields dicts of `tokens`, (row_length,) int64, and `epoch`, counted from 0. Every process and loader worker is a
    unit that reads its own documents, block by block; a block's rows are a pure function of its documents, so a
    position in the stream is a handful of numbers: `iter(rows)` has `state_dict()` and `load_state_dict()`.
    """

    def __init__(
        self,
        documents: datasets.IterableDataset,
        tokenizer: PreTrainedTokenizerFast,
        row_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        packing: str = "best_fit",
        epochs: int | None = None,
        seed: int = 0,
        documents_per_block: int = 512,
    ):
        if packing not in PACKERS:
            raise InputError(f"packing {packing!r} is unknown: choose {' or '.join(PACKERS)}.")
        self.documents = documents
        self.tokenizer = tokenizer
        self.row_length = row_length
        self.rank = rank
        self.world_size = world_size
        self.pack = PACKERS[packing]
        self.epochs = epochs
        self.seed = seed
        self.documents_per_block = documents_per_block

    def __iter__(self) -> "PackedRowsIterator":
        worker = torch.utils.data.get_worker_info()
        workers, worker_id = (worker.num_workers, worker.id) if worker else (1, 0)
        return PackedRowsIterator(self, unit=self.rank * workers + worker_id, units=self.world_size * workers)


class PackedRowsIterator:
    """The rows of one unit of `units`, and where it stands among them."""

    def __init__(self, rows: PackedRows, unit: int, units: int):
        self.rows = rows
        self.unit = unit
        self.units = units
        # `documents` is the stream's own state at the start of the block, None at the start of an epoch.
        self._position: dict[str, Any] = {"epoch": 0, "block": 0, "row": 0, "documents": None}
        self._generator = self._generate()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        return next(self._generator)

    def state_dict(self) -> dict[str, Any]:
        """Where the row after the last one yielded is found."""
        return copy.deepcopy(self._position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position = copy.deepcopy(state)
        self._generator = self._generate()

    def _generate(self) -> Iterator[dict[str, Any]]:
        position = self._position
        while self.rows.epochs is None or position["epoch"] < self.rows.epochs:
            yield from self._generate_epoch(position)
            position.update(epoch=position["epoch"] + 1, block=0, row=0, documents=None)

    def _generate_epoch(self, position: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # A copy: the streams of `datasets` keep their state in objects that all views of one dataset share.
        stream = split_dataset_by_node(copy.deepcopy(self.rows.documents), self.unit, self.units)
        if position["documents"] is not None:
            stream.load_state_dict(position["documents"])
        reader = stream.iter(batch_size=1)
        from_start = position["block"] == position["row"] == 0
        documents_seen = rows_seen = 0
        while texts := [batch["text"][0] for batch in islice(reader, self._block_size(position))]:
            rows = self._pack_block(texts, position)
            documents_seen += len(texts)
            rows_seen += len(rows)
            for row in rows[position["row"] :]:
                position["row"] += 1
                yield {"tokens": torch.from_numpy(row), "epoch": position["epoch"]}
            position.update(block=position["block"] + 1, row=0, documents=stream.state_dict())
        if from_start and (documents_seen == 0 or (position["epoch"] == 0 and rows_seen == 0)):
            raise self._too_small(documents_seen)

    def _block_size(self, position: dict[str, Any]) -> int:
        """Documents in this block. After the first epoch the first block is shorter, so that all of them fall anew."""
        if position["epoch"] == 0 or position["block"] > 0:
            return self.rows.documents_per_block
        return int(self._random(position).integers(1, self.rows.documents_per_block, endpoint=True))

    def _pack_block(self, texts: list[str], position: dict[str, Any]) -> np.ndarray:
        """Rows of a block, (R, row_length), shuffled: best fit would leave them ordered by length of document."""
        documents = [np.array(ids, dtype=np.int64) for ids in encode_documents(self.rows.tokenizer, texts)]
        return self._random(position).permutation(self.rows.pack(documents, self.rows.row_length))

    def _random(self, position: dict[str, Any]) -> np.random.Generator:
        return np.random.default_rng((self.rows.seed, position["epoch"], position["block"], self.unit))

    def _too_small(self, documents: int) -> InputError:
        if documents == 0:
            return InputError(
                f"dataset too small: fewer documents than the {self.units} that read it (processes x loader workers). "
                "Use fewer of them, or more data."
            )
        return InputError(
            f"dataset too small: {documents} documents for reader {self.unit + 1} of {self.units} do not fill one row "
            f"of {self.rows.row_length} tokens. Use a shorter max_seq_len, fewer processes or workers, or more data."
        )


class RowsLoader(StatefulDataLoader):
    """Batches of packed rows; its state knows for how many processes and workers it was saved."""

    def __init__(self, rows: PackedRows, batch_size: int, num_workers: int):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata 0.11 on torch 2.13
            super().__init__(
                rows,
                batch_size=batch_size,
                num_workers=num_workers,
                collate_fn=_collate,
                worker_init_fn=_leave_stopping_to_main,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # its own: a resumed run must not draw on the model's random numbers
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            yield from super().__iter__()
        except InputError as error:
            # Let go of the workers at once: left to the garbage collector, each of them takes 5 s to stop.
            error.__traceback__ = None
            super().load_state_dict({})
            raise InputError(_without_traceback(error)) from None

    def state_dict(self) -> dict[str, Any]:
        return {**self._readers(), "loader": super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises `InputError` if the state was saved for another number of processes or workers."""
        for name, now in self._readers().items():
            if state_dict[name] != now:
                raise InputError(
                    f"the position in the data was saved with {name} {state_dict[name]} and does not fit "
                    f"{name} {now}: resume with {name} {state_dict[name]}."
                )
        super().load_state_dict(state_dict["loader"])

    def _readers(self) -> dict[str, int]:
        return {"world_size": self.dataset.world_size, "num_workers": self.num_workers}


def build_rows_loader(
    documents: datasets.IterableDataset,
    tokenizer: PreTrainedTokenizerFast,
    row_length: int,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    packing: str = "best_fit",
    epochs: int | None = None,
    seed: int = 0,
) -> RowsLoader:
    """Resumable batches of packed rows: `tokens`, (B, row_length) int64, and `epoch`, the furthest of the batch.

    With `epochs` the last batch of each worker may be smaller. Raises `InputError` for an unknown packing; iterating
    raises it for damaged data and for a dataset too small to give every worker of every process a row.
    """
    if num_workers > 0:
        # The workers are the parallelism; tokenizers' own threads do not survive the fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    rows = PackedRows(
        documents,
        tokenizer,
        row_length,
        rank=rank,
        world_size=world_size,
        packing=packing,
        epochs=epochs,
        seed=seed,
    )
    return RowsLoader(rows, batch_size, num_workers)


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"tokens": torch.stack([row["tokens"] for row in rows]), "epoch": max(row["epoch"] for row in rows)}


def _leave_stopping_to_main(worker_id: int) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM those of a job; the main one decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _without_traceback(error: InputError) -> str:
    """The message alone: torch wraps an error of a worker into the text of its traceback."""
    return str(error).rpartition(f"{InputError.__module__}.{InputError.__qualname__}: ")[2].strip()
