"""Conversations as token ids, tokenized once before training: their number is known and reading them costs nothing."""

from dataclasses import dataclass
from functools import partial

import datasets
from transformers import PreTrainedTokenizerBase

from recipes.data.messages import fit_conversation, warn_of_truncation
from recipes.data.packing import count_rows
from recipes.data.shares import open_share
from tokenizer.chat import encode_conversation, encode_conversations

TOKENS = datasets.Features(
    {
        "input_ids": datasets.List(datasets.Value("int32")),
        "length": datasets.Value("int32"),
        "shortened": datasets.Value("bool"),
    }
)


def tokenize_conversations(
    conversations: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    num_workers: int = 0,
) -> datasets.Dataset:
    """Tokenize the conversations in the column `messages`: `input_ids`, their `length`, and whether `shortened`.

    Conversations longer than `max_tokens` are truncated after an exchange; those of which nothing fits are dropped,
    with one warning that counts them. Raises `InputError` if none is left.
    """
    tokens = conversations.map(
        partial(_tokenize, tokenizer=tokenizer, max_tokens=max_tokens),
        batched=True,
        num_proc=num_workers or None,
        remove_columns=conversations.column_names,
        features=TOKENS,
        desc="Tokenizing",
    )
    warn_of_truncation(len(conversations), len(tokens), sum(tokens["shortened"]), max_tokens)
    return tokens


def _tokenize(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, list]:
    rows: dict[str, list] = {name: [] for name in TOKENS}
    for messages, ids in zip(batch["messages"], encode_conversations(tokenizer, batch["messages"]), strict=True):
        long = len(ids) > max_tokens
        if long:
            messages = fit_conversation(tokenizer, messages, max_tokens)
            ids = encode_conversation(tokenizer, messages)[0] if messages else []
        if ids:
            rows["input_ids"].append(ids)
            rows["length"].append(len(ids))
            rows["shortened"].append(long)
    return rows


def rows_of_one_pass(tokens: datasets.Dataset, row_length: int, packing: str, world_size: int) -> int:
    """Rows that every process can make of one pass over its share of `token_stream`."""
    if len(tokens) < world_size:
        return 0
    shares = (tokens.shard(world_size, rank, contiguous=True)["length"] for rank in range(world_size))
    return min(count_rows(list(lengths), row_length, packing) for lengths in shares)


def token_stream(tokens: datasets.Dataset, world_size: int) -> datasets.IterableDataset:
    """The documents for `PackedRows`, in one shard per process if there are enough documents."""
    return tokens.select_columns("input_ids").to_iterable_dataset(num_shards=min(world_size, len(tokens)))


@dataclass(frozen=True)
class TokenShares:
    """The documents to train on, divided among any number of readers as `token_stream` divides them."""

    tokens: datasets.Dataset

    def share(self, reader: int, num_readers: int) -> datasets.IterableDataset:
        """The documents of one of `num_readers` readers."""
        return open_share(token_stream(self.tokens, num_readers), reader, num_readers)
