"""nanochat's tokenizer.pkl, a pickled tiktoken Encoding, as a tokenizer of transformers: the same tokens for any text.

A pickle is a program. The reader here knows the few instructions that such a tokenizer is written with, and one name,
for which it has a class of its own that only keeps what it is given; a pickle that asks for anything else is refused
before any of it is looked up. tiktoken need not be installed.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

from tokenizers import models
from transformers import PreTrainedTokenizerFast

from recipes.utils.errors import InputError, in_one_line
from tokenizer.bpe import SPLIT_PATTERN, add_special_tokens, as_pretrained, byte_level
from tokenizer.encode import CHARACTER_OF_BYTE
from tokenizer.special_tokens import SPECIAL_TOKENS

ENCODING = ("tiktoken.core", "Encoding")
BYTES = 256
# Of pickle's protocols 4 and 5. With others a pickle calls functions, or asks in a few bytes for all of the memory
# (a numbered memo) or for years (the hash of tuples of tuples).
INSTRUCTIONS = re.compile(
    "PROTO|FRAME|STOP|MARK|STACK_GLOBAL|NEWOBJ|BUILD|EMPTY_TUPLE|EMPTY_DICT|SETITEMS?|MEMOIZE|(LONG_)?BINGET"
    "|(SHORT_)?BIN(UNICODE|BYTES)|BININT[12]?"
)


class PickledEncoding:
    """Stands for tiktoken's class while its pickle is read."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class EncodingReader(pickle.Unpickler):
    """Reads plain values and `PickledEncoding`, and nothing else."""

    def find_class(self, module: str, name: str) -> type:
        """Called for every name that the pickle wants to use."""
        if (module, name) != ENCODING:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tokenizer needs")
        return PickledEncoding


def load_encoding(path: Path, model_max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer in the file `path`, with the chat format, which is nanochat's.

    Raises `InputError` if the file holds anything but such a tokenizer.
    """
    ranks = read_ranks(path)
    tokenizer = byte_level(models.BPE(*vocabulary_and_merges(ranks), ignore_merges=True))
    add_special_tokens(tokenizer)
    return as_pretrained(tokenizer, model_max_length)


def read_ranks(path: Path) -> dict[bytes, int]:
    """The pickled encoding's ranks, by the bytes of each token; 0 is merged first. Checks everything beside them."""
    try:
        content = path.read_bytes()
        check_instructions(content)
        encoding = EncodingReader(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle can make pickle raise anything
        reason = in_one_line(error)
        raise InputError(f"{path} is not a tokenizer of nanochat's: {reason}. Nothing of it was run.") from None
    state = encoding.state if isinstance(encoding, PickledEncoding) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} is not a tokenizer of nanochat's: it holds no tokens.")
    ranks, special_tokens = state.get("mergeable_ranks"), state.get("special_tokens")
    if not is_complete(ranks):
        raise InputError(f"{path} is damaged: its ranks do not number {BYTES} bytes and tokens of more, from 0 on.")
    if state.get("pat_str") != SPLIT_PATTERN:
        raise InputError(f"{path} splits text by another pattern than nanochat's, which might not convert exactly.")
    if special_tokens != {name: len(ranks) + index for index, name in enumerate(SPECIAL_TOKENS)}:
        raise InputError(f"{path} has other special tokens than nanochat's nine at the end of the vocabulary.")
    return ranks


def check_instructions(content: bytes) -> None:
    """Raise `UnpicklingError` if a pickle holds an instruction that no tokenizer needs."""
    for instruction, _, _ in pickletools.genops(content):
        if not INSTRUCTIONS.fullmatch(instruction.name):
            raise pickle.UnpicklingError(f"it asks for pickle's {instruction.name}, which no tokenizer needs")


def is_complete(ranks: Any) -> bool:
    """Whether `ranks` is a mapping of bytes, all single ones among them, to the numbers from 0 on."""
    return (
        isinstance(ranks, dict)
        and all(type(token) is bytes and token for token in ranks)
        and all(type(rank) is int for rank in ranks.values())
        and sorted(ranks.values()) == list(range(len(ranks)))
        and all(bytes([byte]) in ranks for byte in range(BYTES))
    )


def vocabulary_and_merges(ranks: dict[bytes, int]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE that encodes as tiktoken does with `ranks`.

    tiktoken knows no merges: it joins any two neighbours that together are a token, the lowest rank first. So every
    way to make a token of two others becomes a merge, at the place of the token's rank.
    """
    written = {token: "".join(CHARACTER_OF_BYTE[byte] for byte in token) for token in ranks}
    merges = [
        (written[left], written[right])
        for token in sorted(ranks, key=ranks.__getitem__)
        for left, right in splits(token, ranks)
    ]
    return {written[token]: rank for token, rank in ranks.items()}, merges


def splits(token: bytes, ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All ways to make a token of two others."""
    cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
    return [(left, right) for left, right in cuts if left in ranks and right in ranks]
