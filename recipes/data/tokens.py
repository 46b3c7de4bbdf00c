"""Conversations as token ids. Tokenized once before training: then their number is known, and reading them is free."""

import logging
from functools import partial

import datasets
from transformers import PreTrainedTokenizerBase

from recipes.data.messages import fit_conversation
from recipes.data.packing import count_rows
from recipes.utils.errors import InputError
from tokenizer.chat import encode_conversation, encode_conversations

TOKENS = datasets.Features(
    {
        "input_ids": datasets.List(datasets.Value("int32")),
        "length": datasets.Value("int32"),
        "shortened": datasets.Value("bool"),
    }
)

logger = logging.getLogger(__name__)


def tokenize_conversations(
    conversations: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    num_workers: int = 0,
) -> datasets.Dataset:
    """`input_ids` and their `length` of each conversation of the column `messages`, in their order.

    Longer ones than `max_tokens` are truncated at the end of a message; those of which nothing fits are left out, with
    one counted warning. Raises `InputError` if none is left.
    """
    tokens = conversations.map(
        partial(_tokenize, tokenizer=tokenizer, max_tokens=max_tokens),
        batched=True,
        num_proc=num_workers or None,
        remove_columns=conversations.column_names,
        features=TOKENS,
        desc="Tokenizing",
    )
    if not len(tokens):
        raise InputError(f"none of the {len(conversations):,} conversations fits into {max_tokens:,} tokens.")
    truncated, dropped = sum(tokens["shortened"]), len(conversations) - len(tokens)
    if truncated or dropped:
        logger.warning(
            f"truncated {truncated:,} and dropped {dropped:,} of {len(conversations):,} conversations that do not "
            f"fit into {max_tokens:,} tokens"
        )
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
    """Rows that every process gets of one pass over its share, as `token_stream` deals them out."""
    if len(tokens) < world_size:
        return 0
    shares = (tokens.shard(world_size, rank, contiguous=True)["length"] for rank in range(world_size))
    return min(count_rows(list(lengths), row_length, packing) for lengths in shares)


def token_stream(tokens: datasets.Dataset, world_size: int) -> datasets.IterableDataset:
    """The documents for `PackedRows`, one shard for each process where there are enough of them."""
    return tokens.select_columns("input_ids").to_iterable_dataset(num_shards=min(world_size, len(tokens)))
