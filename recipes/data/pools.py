"""Packing: pools that turn documents of any length into rows of exactly `row_length` tokens, without padding."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

POOL_DOCUMENTS = 1000  # waiting to be packed; more waste fewer tokens, but delay the first row


class BestFitPool:
    """Best-fit packing with cropping: every row begins with a document's start, and rows waste no token on padding.

    Each row repeatedly takes the longest waiting document that fits the room left; when none fits, the shortest one
    is cropped to fill it, and the rest is dropped. O(log n) per document. The rule is nanochat's: with more documents
    than a run can read, the start of a new one teaches more than the rest of an old one.
    """

    drops_tokens = True

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.waiting: dict[int, deque[np.ndarray]] = {}  # documents by length; equal lengths first in, first out
        self.lengths: list[int] = []  # sorted keys of `waiting`, for binary search
        self.count = 0  # waiting documents
        self.tokens = 0  # usable tokens of the waiting documents

    @property
    def needs_documents(self) -> bool:
        """Whether more documents should be added before the next row."""
        return self.count < POOL_DOCUMENTS or not self.has_row

    @property
    def has_row(self) -> bool:
        """Whether the waiting documents fill a row."""
        return self.tokens >= self.row_length

    def add(self, tokens: np.ndarray) -> None:
        """Add a document, (n,) int32. Of a longer one than a row only a row's length is kept: no more can be used."""
        self._add(len(tokens), tokens[: self._kept(len(tokens))])

    def next_row(self) -> np.ndarray | None:
        """The next row, (row_length,), or None if the waiting documents do not fill one."""
        if not self.has_row:
            return None
        pieces, room = [], self.row_length
        while room:
            # The last length <= room is the longest document that fits; position 0, the shortest, if none fits.
            piece = self._crop(self._take(max(bisect_right(self.lengths, room) - 1, 0)), room)
            pieces.append(piece)
            room -= len(piece)
        return np.concatenate(pieces)

    def _crop(self, document: np.ndarray, room: int) -> np.ndarray:
        """The first `room` tokens of a document; the rest is dropped."""
        return document[:room]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The waiting documents: their full lengths, and their kept tokens concatenated."""
        kept = [tokens for length in self.lengths for tokens in self.waiting[length]]
        lengths = [length for length in self.lengths for _ in self.waiting[length]]
        return {"lengths": torch.tensor(lengths, dtype=torch.long), "tokens": _as_tensor(kept)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Replace the waiting documents by those of `state`."""
        self.take_over([state], 0, 1)

    def take_over(self, states: Sequence[dict[str, torch.Tensor]], number: int, pools: int) -> None:
        """Replace the waiting documents by the share that one of `pools` gets of all in `states`."""
        self.waiting, self.lengths, self.count, self.tokens = {}, [], 0, 0
        waiting = sorted((piece for state in states for piece in self._pieces(state)), key=lambda piece: piece[0])
        for length, tokens in waiting[number::pools]:
            self._add(length, tokens.copy())

    def _pieces(self, state: dict[str, torch.Tensor]) -> Iterable[tuple[int, np.ndarray]]:
        """Full lengths and kept tokens of the documents in `state`, shortest first."""
        lengths = state["lengths"].tolist()
        ends = np.cumsum([self._kept(length) for length in lengths])[:-1] if lengths else []
        return zip(lengths, np.split(state["tokens"].numpy(), ends), strict=bool(lengths))

    def _kept(self, length: int) -> int:
        """Tokens kept of a document of `length`."""
        return min(length, self.row_length)

    def _add(self, length: int, kept: np.ndarray) -> None:
        if length not in self.waiting:
            self.waiting[length] = deque()
            insort(self.lengths, length)
        self.waiting[length].append(kept)
        self.count += 1
        self.tokens += len(kept)

    def _take(self, position: int) -> np.ndarray:
        length = self.lengths[position]
        document = self.waiting[length].popleft()
        if not self.waiting[length]:
            del self.waiting[length], self.lengths[position]
        self.count -= 1
        self.tokens -= len(document)
        return document


class BestFitSplitPool(BestFitPool):
    """Best-fit packing that drops nothing: the rest of a cropped document goes back into the pool.

    The rest gets the document's first token (`<|bos|>`) in front, because every row begins with one. For small
    corpora: cropping would repeat the same beginnings every epoch and never show the rest.
    """

    drops_tokens = False

    @property
    def needs_documents(self) -> bool:
        """As above, but a pool of long documents (books) is full sooner: it holds at most 1000 rows of tokens."""
        return super().needs_documents and self.tokens < POOL_DOCUMENTS * self.row_length

    def add(self, tokens: np.ndarray) -> None:
        """Add a copy of a document, because `_crop` writes into it."""
        super().add(tokens.copy())

    def _crop(self, document: np.ndarray, room: int) -> np.ndarray:
        """The first `room` tokens of a document; the rest, behind the document's first token, goes into the pool."""
        if len(document) <= room:
            return document
        piece, rest = document[:room].copy(), document[room - 1 :]
        rest[0] = document[0]  # in place of the last token of `piece`: a book is cut a thousand times, but copied once
        self._add(len(rest), rest)
        return piece

    def _kept(self, length: int) -> int:
        return length


class ConcatenatingPool:
    """Documents concatenated and cut into rows: rows may start inside a document, and no token is dropped.

    Whole rows that wait are drawn in random order. Of short documents only a few wait; of a book all its rows do, and
    a batch of neighbours, which say much the same, would teach less: 2.03 nats a character instead of 1.81 after 400
    steps on Shakespeare (benchmarks/RESULTS.md, "Shakespeare").
    """

    drops_tokens = False

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.tokens = np.empty(0, dtype=np.int32)  # whole rows, then the beginning of the next one
        self.drawn = 0  # rows so far, which seed the next draw

    @property
    def needs_documents(self) -> bool:
        """Whether more documents should be added before the next row."""
        return not self.has_row

    @property
    def has_row(self) -> bool:
        return len(self.tokens) >= self.row_length

    def add(self, tokens: np.ndarray) -> None:
        self.tokens = np.concatenate([self.tokens, tokens])

    def next_row(self) -> np.ndarray | None:
        """A row, (row_length,), or None if the tokens do not fill one. The last whole row takes its place."""
        if not self.has_row:
            return None
        size, last = self.row_length, len(self.tokens) // self.row_length - 1
        chosen = int(np.random.default_rng(self.drawn).integers(last + 1))
        self.drawn += 1
        row = self.tokens[chosen * size : (chosen + 1) * size].copy()
        self.tokens[chosen * size : (chosen + 1) * size] = self.tokens[last * size : (last + 1) * size]
        begun = self.tokens[(last + 1) * size :].copy()
        self.tokens[last * size : last * size + len(begun)] = begun
        self.tokens = self.tokens[:-size]
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": _as_tensor([self.tokens]), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.take_over([state], 0, 1)

    def take_over(self, states: Sequence[dict[str, Any]], number: int, pools: int) -> None:
        """Replace the waiting tokens by the share that one of `pools` gets of all in `states`."""
        size, pieces = self.row_length, []
        for tokens in (state["tokens"].numpy() for state in states):
            pieces += np.split(tokens, range(size, len(tokens), size))
        whole_rows_first = sorted(pieces, key=len, reverse=True)
        self.tokens = np.concatenate([np.empty(0, dtype=np.int32), *whole_rows_first[number::pools]])
        self.drawn = states[0].get("drawn", 0)  # older checkpoints have none


def _as_tensor(pieces: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int32), *pieces]).astype(np.int32))


POOLS = {"best_fit": BestFitPool, "best_fit_split": BestFitSplitPool, "concatenated": ConcatenatingPool}
