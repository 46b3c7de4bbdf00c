"""Conversations tokenized before training: what the format says, nothing lost, and counted as they are dealt out."""

import logging

import datasets
import pytest

from evals.tokenizer.samples import DOMAINS
from recipes.data.packing import PackedRows
from recipes.data.tokens import rows_of_one_pass, token_stream, tokenize_conversations
from recipes.utils.errors import InputError
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_conversation

MESSAGES = datasets.Features({"messages": datasets.List(datasets.Json())})


@pytest.fixture(scope="module")
def tokenizer():
    """Ours, of 300 tokens."""
    return train_tokenizer(list(DOMAINS.values()), vocab_size=300)


def conversation(exchanges: int, words: int = 3) -> list[dict]:
    turn = [{"role": "user", "content": "again " * words}, {"role": "assistant", "content": "and again"}]
    return turn * exchanges


def dataset_of(conversations: list[list[dict]]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"messages": conversations}, features=MESSAGES)


@pytest.mark.parametrize("workers", [0, 2])
def test_tokens_are_those_of_the_chat_format_in_the_same_order(tokenizer, workers):
    conversations = [conversation(1 + index % 3, index) for index in range(20)]
    tokens = tokenize_conversations(dataset_of(conversations), tokenizer, 10_000, workers)
    assert tokens["input_ids"][:] == [encode_conversation(tokenizer, each)[0] for each in conversations]
    assert tokens["length"][:] == [len(ids) for ids in tokens["input_ids"]]


def test_long_conversations_end_at_a_message_and_one_warning_counts_them(tokenizer, caplog):
    fitting, long, hopeless = conversation(2), conversation(9), conversation(1, words=500)
    room = len(encode_conversation(tokenizer, conversation(4))[0]) + 1
    with caplog.at_level(logging.WARNING):
        tokens = tokenize_conversations(dataset_of([fitting, long, hopeless]), tokenizer, room)
    expected = [encode_conversation(tokenizer, conversation(exchanges))[0] for exchanges in (2, 4)]
    assert tokens["input_ids"][:] == expected
    (line,) = [record.message for record in caplog.records if record.name == "recipes.data.messages"]
    assert line == f"truncated 1 and dropped 1 of 3 conversations that do not fit into {room} tokens"


def test_nothing_that_fits_is_one_clear_line(tokenizer):
    with pytest.raises(InputError, match=r"^none of the 2 conversations fits into 4 tokens\.$"):
        tokenize_conversations(dataset_of([conversation(1), conversation(2)]), tokenizer, 4)


@pytest.mark.parametrize("packing", ["best_fit", "concatenated"])
@pytest.mark.parametrize("world_size", [1, 3])
def test_the_rows_counted_are_those_that_the_poorest_process_gets(tokenizer, packing, world_size):
    conversations = [conversation(1 + index % 4, index % 11) for index in range(200)]
    tokens = tokenize_conversations(dataset_of(conversations), tokenizer, 300)
    dealt = [
        sum(1 for _ in PackedRows(stream, tokenizer, 40, rank=rank, world_size=world_size, packing=packing, epochs=1))
        for rank, stream in enumerate([token_stream(tokens, world_size)] * world_size)
    ]
    assert rows_of_one_pass(tokens, 40, packing, world_size) == min(dealt) > 20


def test_fewer_conversations_than_processes_make_no_row(tokenizer):
    tokens = tokenize_conversations(dataset_of([conversation(3), conversation(3)]), tokenizer, 300)
    assert rows_of_one_pass(tokens, 8, "best_fit", world_size=3) == 0
    assert rows_of_one_pass(tokens, 8, "best_fit", world_size=2) > 0
