"""Rules by which documents of any length become rows of exactly `row_length` tokens, without padding."""

from bisect import bisect_right, insort
from collections import deque

import numpy as np
import torch

POOL_DOCUMENTS = 1000  # that wait for a row that they fit; more waste fewer tokens and take longer to read at first


class BestFitPool:
    """Documents waiting for a row. Each row starts with the start of a document and is filled by best fit.

    A row takes the longest waiting document that fits the room left; when none fits, the shortest is cropped to fill
    it, and what was cut off is dropped. O(log n) a document. The rule is nanochat's: where there are more documents
    than a run can read, the start of a new one teaches more than the rest of an old one.
    """

    drops_tokens = True

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.waiting: dict[int, deque[np.ndarray]] = {}  # by length, first come first served
        self.lengths: list[int] = []  # the keys of `waiting`, sorted
        self.count = 0  # of documents
        self.tokens = 0  # of them that are kept

    @property
    def hungry(self) -> bool:
        """Whether more documents should be added before the next row."""
        return self.count < POOL_DOCUMENTS or not self.has_row

    @property
    def has_row(self) -> bool:
        """Whether the waiting documents fill a row."""
        return self.tokens >= self.row_length

    def add(self, tokens: np.ndarray) -> None:
        """Let a document wait; of one longer than a row, only a row's length can ever be used."""
        self._add(len(tokens), tokens[: self._kept(len(tokens))])

    def next_row(self) -> np.ndarray | None:
        """The next row, (row_length,), or None if the waiting documents do not fill one."""
        if not self.has_row:
            return None
        pieces, room = [], self.row_length
        while room:
            piece = self._crop(self._take(max(bisect_right(self.lengths, room) - 1, 0)), room)
            pieces.append(piece)
            room -= len(piece)
        return np.concatenate(pieces)

    def _crop(self, document: np.ndarray, room: int) -> np.ndarray:
        """The first `room` tokens of a document; the others are dropped."""
        return document[:room]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The waiting documents: their full lengths and what is kept of each, end to end."""
        kept = [tokens for length in self.lengths for tokens in self.waiting[length]]
        lengths = [length for length in self.lengths for _ in self.waiting[length]]
        return {"lengths": torch.tensor(lengths, dtype=torch.long), "tokens": _as_tensor(kept)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Wait for rows with the documents of `state` and no others."""
        self.waiting, self.lengths, self.count, self.tokens = {}, [], 0, 0
        lengths = state["lengths"].tolist()
        ends = np.cumsum([self._kept(length) for length in lengths])[:-1] if lengths else []
        kept = np.split(state["tokens"].numpy().copy(), ends)
        for length, tokens in zip(lengths, kept, strict=bool(lengths)):
            self._add(length, tokens)

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
    """Best fit that drops nothing: the rest of a cropped document waits as a piece of its own.

    Such a piece begins with the document's first token (`<|bos|>`) too, as every row does. For small corpora, of which
    cropping would show the same beginnings again and again, and the rest never.
    """

    drops_tokens = False

    @property
    def hungry(self) -> bool:
        """Whether more documents should be added before the next row. Whole books do not all have to wait at once."""
        return super().hungry and self.tokens < POOL_DOCUMENTS * self.row_length

    def add(self, tokens: np.ndarray) -> None:
        """Let a document wait. It is copied, because cropping writes into it."""
        super().add(tokens.copy())

    def _crop(self, document: np.ndarray, room: int) -> np.ndarray:
        """The first `room` tokens of a document; the others wait on, behind the document's first token."""
        if len(document) <= room:
            return document
        piece, rest = document[:room].copy(), document[room - 1 :]
        rest[0] = document[0]  # in place: a book is cut a thousand times, and copied once
        self._add(len(rest), rest)
        return piece

    def _kept(self, length: int) -> int:
        return length


class ConcatenatingPool:
    """Documents end to end, cut into rows: a row may start inside a document, and no token is dropped."""

    drops_tokens = False

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.tokens = np.empty(0, dtype=np.int32)

    @property
    def hungry(self) -> bool:
        """Whether more documents should be added before the next row."""
        return not self.has_row

    @property
    def has_row(self) -> bool:
        """Whether the tokens fill a row."""
        return len(self.tokens) >= self.row_length

    def add(self, tokens: np.ndarray) -> None:
        """Put a document at the end."""
        self.tokens = np.concatenate([self.tokens, tokens])

    def next_row(self) -> np.ndarray | None:
        """The next row, (row_length,), or None if there are too few tokens."""
        if not self.has_row:
            return None
        row, self.tokens = self.tokens[: self.row_length], self.tokens[self.row_length :]
        return row

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tokens that are waiting."""
        return {"tokens": _as_tensor([self.tokens])}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on with the tokens of `state`."""
        self.tokens = state["tokens"].numpy()


def _as_tensor(pieces: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int32), *pieces]).astype(np.int32))


POOLS = {"best_fit": BestFitPool, "best_fit_split": BestFitSplitPool, "concatenated": ConcatenatingPool}
