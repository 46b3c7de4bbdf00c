"""Encode documents to token ids, and token ids to the exact bytes that they stand for.

Works with any byte-level BPE tokenizer of transformers, such as GPT-2's and ours.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode  # undocumented: tests/tokenizer/test_encode.py

from recipes.utils.errors import InputError

CHARACTER_OF_BYTE: dict[int, str] = bytes_to_unicode()  # GPT-2's alphabet, in which byte-level BPE stores tokens
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text: the token that starts a document, then ordinary tokens only.

    A special token that is spelled out in a text is encoded as its characters. Nothing is truncated or padded.
    Raises `InputError` if a text is not valid Unicode, or the tokenizer has no token that starts a document.
    """
    start = document_start_id(tokenizer)
    with _plain_text_only(tokenizer.backend_tokenizer) as backend:
        try:
            encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            check_utf8(texts)
            raise
    return [[start, *encoding.ids] for encoding in encodings]


def document_start_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Id of the token before every document: bos, or eos if there is no bos (GPT-2's `<|endoftext|>`)."""
    if tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    if tokenizer.eos_token_id is not None:
        return tokenizer.eos_token_id
    raise InputError(
        f"tokenizer {tokenizer.name_or_path!r} has neither a bos_token nor an eos_token to start a document with: "
        "set one in its tokenizer_config.json."
    )


def encoding_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of what a tokenizer makes of texts, equal for tokenizers that make the same: 0.5 s for 65,536 tokens.

    Of its vocabulary and merges, and of the ids of texts in which every token is spelled out, alone and between
    others, which show how it splits. Not of tokenizer.json, which changes with the library that saved it.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges", [])
    pairs = [each.split(" ") if isinstance(each, str) else each for each in merges]  # older versions have "a b"
    spelled_out = tokenizer.backend_tokenizer.decode_batch([[index] for _, index in vocabulary])
    encoded = encode_documents(tokenizer, ["\n".join(spelled_out), "".join(spelled_out)])
    return hashlib.sha256(json.dumps([vocabulary, pairs, encoded]).encode()).hexdigest()


def check_utf8(texts: Sequence[str], first: int = 0) -> None:
    """Raise `InputError` naming the first lone surrogate (U+D800 to U+DFFF), which UTF-8 cannot encode.

    `first` is the number of the first text, if `texts` are part of a longer sequence.
    """
    for index, text in enumerate(texts, first):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"text {index} holds a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
                "which is not valid Unicode: clean it by text.encode('utf-8', 'replace').decode()."
            ) from None


def token_bytes(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> bytes:
    """The exact bytes of `ids`, also if they begin or end within a character. Special tokens have no bytes."""
    added = _added_tokens(tokenizer)
    return b"".join(_bytes_of(token, added) for token in tokenizer.convert_ids_to_tokens(list(ids)))


def token_byte_lengths(tokenizer: PreTrainedTokenizerFast) -> torch.LongTensor:
    """Number of UTF-8 bytes of each token id, (vocab,); 0 for special tokens and unused ids."""
    added = _added_tokens(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return torch.tensor([len(_bytes_of(token, added)) for token in tokens], dtype=torch.long)


@contextmanager
def _plain_text_only(backend: Tokenizer) -> Iterator[Tokenizer]:
    """Turn off special tokens in texts, truncation and padding, which earlier calls may have set, and restore them."""
    before = backend.encode_special_tokens, backend.truncation, backend.padding
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    try:
        yield backend
    finally:
        backend.encode_special_tokens = before[0]
        if before[1] is not None:
            backend.enable_truncation(**before[1])
        if before[2] is not None:
            backend.enable_padding(**before[2])


def _added_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, AddedToken]:
    return {token.content: token for token in tokenizer.added_tokens_decoder.values()}


def _bytes_of(token: str | None, added: dict[str, AddedToken]) -> bytes:
    """Bytes of one vocabulary entry. Added tokens are stored as plain text, all others in GPT-2's byte alphabet."""
    if token is None:
        return b""
    if token in added:
        return b"" if added[token].special else token.encode("utf-8")
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError:
        raise InputError(f"token {token!r} is not of a byte-level BPE: its number of bytes is not known.") from None
