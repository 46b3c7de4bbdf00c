"""Write our tokenizer as nanochat's tokenizer.pkl, a pickled tiktoken Encoding that gives every text the same tokens.

tiktoken need not be installed: the pickle is written instruction by instruction, with those that the reader knows.
"""

import json
import pickle
import struct
from itertools import pairwise
from typing import Any

from tokenizers import models
from transformers import PreTrainedTokenizerFast

from recipes.convert.encoding import ENCODING, is_complete, splits
from recipes.utils.errors import InputError
from tokenizer.bpe import SPLIT_PATTERN, add_special_tokens, byte_level
from tokenizer.encode import BYTE_OF_CHARACTER
from tokenizer.special_tokens import SPECIAL_TOKENS

# Of tokenizer.json: all that decides which tokens a text has.
PARTS = {
    "normalizer": "normalizes texts first",
    "pre_tokenizer": "splits texts in another way",
    "decoder": "decodes in another way",
    "model": "is no plain byte-level BPE",
    "added_tokens": "has other special tokens than the nine at the end of the vocabulary",
}


def pickled_encoding(tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The content of a tokenizer.pkl. Raises `InputError` if tiktoken would encode some texts in another way."""
    ranks = ranks_of(tokenizer)
    state = {
        "name": "rustbpe",
        "pat_str": SPLIT_PATTERN,
        "mergeable_ranks": ranks,
        "special_tokens": {name: len(ranks) + index for index, name in enumerate(SPECIAL_TOKENS)},
    }
    instance = b"".join(map(pickled, ENCODING)) + pickle.STACK_GLOBAL + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    return pickle.PROTO + b"\x04" + instance + pickled(state) + pickle.BUILD + pickle.STOP


def pickled(value: Any) -> bytes:
    """The instructions that put texts, bytes, numbers or a dictionary of them onto pickle's stack."""
    if isinstance(value, dict):
        items = b"".join(pickled(each) for item in value.items() for each in item)
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    if isinstance(value, int):
        return pickle.BININT + struct.pack("<i", value)
    content = value.encode() if isinstance(value, str) else value
    opcode = pickle.BINUNICODE if isinstance(value, str) else pickle.BINBYTES
    return opcode + struct.pack("<I", len(content)) + content


def ranks_of(tokenizer: PreTrainedTokenizerFast) -> dict[bytes, int]:
    """The id of each token by its bytes. Raises `InputError` if joining by the lowest id gives other tokens."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model = parts["model"]
    if model["type"] != "BPE":
        raise unlike(f"is of the type {model['type']}")
    merges = [tuple(each) for each in model["merges"]]
    twin = byte_level(models.BPE(model["vocab"], merges, ignore_merges=model["ignore_merges"]))
    add_special_tokens(twin)
    expected = json.loads(twin.to_str())
    for name, meaning in PARTS.items():
        if parts[name] != expected[name]:
            raise unlike(meaning)
    ranks = {as_bytes(token): index for token, index in model["vocab"].items()}
    if not is_complete(ranks):
        raise unlike("does not number all bytes and its other tokens from 0 on")
    check_merges(ranks, [(as_bytes(left), as_bytes(right)) for left, right in merges], model["ignore_merges"])
    return ranks


def as_bytes(token: str) -> bytes:
    """The bytes of a token that is written in GPT-2's alphabet."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError:
        raise unlike(f"has the token {token!r:.40}, which stands for no bytes") from None


def check_merges(ranks: dict[bytes, int], merges: list[tuple[bytes, bytes]], whole: bool) -> None:
    """Raise `InputError` unless tiktoken, which knows no merges, makes the same tokens of any text.

    tiktoken joins any two neighbours that together are a token, the lowest rank first. What lies between two cuts that
    remain is joined as it would be alone. So where lower ranks leave two parts of a token's own bytes, only these two
    can meet anywhere, and they must be a merge. Where they leave more, which training never does, any two might meet.
    The merges must be in the order of the ranks. With `whole`, as in tiktoken, a piece of text that is a token is not
    taken apart first.
    """
    known = set(merges)
    for token, rank in ranks.items():
        parts = joined(token, ranks, below=rank)
        pairs = [tuple(parts)] if len(parts) == 2 else splits(token, ranks)
        if len(token) > 1 and not (known.issuperset(pairs) and (len(parts) == 2 or whole)):
            raise unlike(f"does not join the token {token!r:.40} as the ranks of its parts say")
    results = [ranks[left + right] for left, right in merges]
    if results != sorted(results):
        raise unlike("does not join tokens in the order of their ids")


def joined(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """What tiktoken makes of the bytes of `token` with the ranks below `below`."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 1:
        rank, at = min((ranks.get(left + right, below), at) for at, (left, right) in enumerate(pairwise(parts)))
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def unlike(how: str) -> InputError:
    return InputError(
        f"the tokenizer {how}, unlike nanochat's: a tokenizer.pkl would make other tokens of some texts than it does."
    )
