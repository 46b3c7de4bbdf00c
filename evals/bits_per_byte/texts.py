"""The text that every model is measured on, and how each tokenizer cuts it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from recipes.utils.errors import InputError
from tokenizer.encode import check_utf8, document_start_id

FEWEST_DOCUMENTS = 30  # for a standard error over documents; of fewer, it is over passages
PASSAGE_CHARACTERS = 1_000
START = -1  # instead of a passage: the token that starts a document, which stands for no text


@dataclass(frozen=True)
class Texts:
    """Documents, the same for every model. Passages are the documents, or parts of them if there are few."""

    documents: list[str]

    @cached_property
    def passages(self) -> list[tuple[int, str]]:
        """Each passage's document and text, in order."""
        if len(self.documents) >= FEWEST_DOCUMENTS:
            return list(enumerate(self.documents))
        return [
            (number, text[start : start + PASSAGE_CHARACTERS])
            for number, text in enumerate(self.documents)
            for start in range(0, len(text), PASSAGE_CHARACTERS)
        ]

    @cached_property
    def passage_bytes(self) -> np.ndarray:
        """UTF-8 bytes of each passage, (P,)."""
        return np.array([len(text.encode("utf-8")) for _, text in self.passages])

    @property
    def num_bytes(self) -> int:
        return int(self.passage_bytes.sum())

    @property
    def unit(self) -> str:
        """What the passages are, for people."""
        many = len(self.documents) >= FEWEST_DOCUMENTS
        return "documents" if many else f"passages of {PASSAGE_CHARACTERS:,} characters"

    def passages_at(self, document: int, characters: np.ndarray) -> np.ndarray:
        """The passages that hold these characters (n,) of a document."""
        if len(self.documents) >= FEWEST_DOCUMENTS:
            return np.full(len(characters), document)
        first, last = self._spans[document]
        return np.minimum(first + characters // PASSAGE_CHARACTERS, last)

    @cached_property
    def _spans(self) -> dict[int, tuple[int, int]]:
        """First and last passage of each document."""
        spans: dict[int, tuple[int, int]] = {}
        for place, (document, _) in enumerate(self.passages):
            spans[document] = (spans.get(document, (place,))[0], place)
        return spans


def read_texts(rows: Iterable[Mapping[str, Any]], name: str, max_bytes: int) -> Texts:
    """The first `max_bytes` of a stream of documents; the last document may be cut, at a character.

    Raises `InputError` if there is no text, or if the documents are tokenized already.
    """
    documents, room = [], max_bytes
    for row in rows:
        if "text" not in row:
            raise InputError(
                f"{name} holds tokens, not text, and models with other tokenizers cannot read them: give the text "
                "that it was prepared from."
            )
        check_utf8([row["text"]], first=len(documents))
        data = row["text"].encode("utf-8")
        documents.append(data[:room].decode("utf-8", "ignore"))
        room -= len(data)
        if room <= 0:
            break
    if not any(documents):
        raise InputError(f"{name} holds no text to measure in its first {max_bytes:,} bytes.")
    return Texts([text for text in documents if text])


@dataclass(frozen=True)
class TokenizedTexts:
    """One tokenizer's tokens of all documents, concatenated: each document after the token that starts one."""

    ids: torch.Tensor  # (N,) int64
    passages: torch.Tensor  # (N,) int64: the passage that each token begins in, or START
    reproduced_bytes: int  # of the lines that decode to what they were
    changed: tuple[str, str] | None  # the first line that does not, and what it decodes to

    @property
    def num_tokens(self) -> int:
        """Tokens that stand for text."""
        return int((self.passages != START).sum())


def tokenize(texts: Texts, tokenizer: PreTrainedTokenizerBase) -> TokenizedTexts:
    """Encode by any tokenizer of transformers, fast or slow. Special tokens spelled out in a text are characters.

    Raises `InputError` if the tokenizer has no token to start a document with.
    """
    start = document_start_id(tokenizer)
    ids, passages, reproduced, changed = [], [], 0, None
    for number, text in enumerate(texts.documents):
        own, characters = _encode(tokenizer, text)
        ids += [start, *own]
        passages += [START, *texts.passages_at(number, characters).tolist()]
        decoded = tokenizer.decode(own, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        intact, difference = _compare(text, decoded)
        reproduced, changed = reproduced + intact, changed or difference
    return TokenizedTexts(torch.tensor(ids), torch.tensor(passages), reproduced, changed)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], np.ndarray]:
    """Token ids (n,) of a text, and the character that each begins at, which slow tokenizers tell only roughly."""
    options = {"add_special_tokens": False, "split_special_tokens": True}
    if tokenizer.is_fast:
        encoded = tokenizer(text, return_offsets_mapping=True, **options)
        return encoded["input_ids"], np.array([start for start, _ in encoded["offset_mapping"]], dtype=np.int64)
    ids = tokenizer(text, **options)["input_ids"]
    lengths = np.array([len(str(token)) for token in tokenizer.convert_ids_to_tokens(ids)], dtype=np.float64)
    begins = np.cumsum(lengths) - lengths
    return ids, (begins * len(text) / max(lengths.sum(), 1)).astype(np.int64)


def _compare(text: str, decoded: str) -> tuple[int, tuple[str, str] | None]:
    """UTF-8 bytes of the lines that are equal, and the first pair that is not. None are if their numbers differ."""
    if text == decoded:
        return len(text.encode("utf-8")), None
    before, after = text.splitlines(keepends=True), decoded.splitlines(keepends=True)
    different = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), (text, decoded))
    if len(before) != len(after):
        return 0, different
    return sum(len(a.encode("utf-8")) for a, b in zip(before, after, strict=True) if a == b), different
