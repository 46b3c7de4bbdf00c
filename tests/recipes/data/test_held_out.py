import datasets
import pytest
import torch

from recipes.data.held_out import read_validation_rows
from recipes.utils.errors import InputError
from tokenizer.bpe import train_tokenizer
from tokenizer.encode import token_byte_lengths

TEXTS = [f"Document {i} says: " + "one, two, three; " * (i % 5) for i in range(300)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def stream(texts=TEXTS):
    return datasets.Dataset.from_dict({"text": texts}).to_iterable_dataset()


def end_to_end(tokenizer, texts=TEXTS):
    return [token for text in texts for token in tokenizer(text)["input_ids"]]


@pytest.mark.parametrize("length", [1, 7, 64, 100_000])
def test_every_token_but_the_first_is_predicted_exactly_once(tokenizer, length):
    rows = read_validation_rows(stream(), tokenizer, length, 10**9)
    assert rows.shape[1] == length + 1
    expected = end_to_end(tokenizer)
    padding = len(rows) * length + 1 - len(expected)
    assert padding < length
    assert rows[:, 1:].flatten().tolist() == expected[1:] + [tokenizer.bos_token_id] * padding
    assert (rows[1:, 0] == rows[:-1, -1]).all()
    assert token_byte_lengths(tokenizer)[tokenizer.bos_token_id] == 0  # padding is never counted


def test_reading_ends_with_the_tokens_asked_for(tokenizer):
    rows = read_validation_rows(stream(), tokenizer, 10, 25)
    assert rows[:, 1:].flatten()[:25].tolist() == end_to_end(tokenizer)[1:26]
    assert rows.shape == (3, 11)
    assert (rows[-1, 6:] == tokenizer.bos_token_id).all()


def test_documents_tokenized_before_give_the_same_rows(tokenizer):
    ids = datasets.Dataset.from_dict({"input_ids": tokenizer(TEXTS)["input_ids"]}).to_iterable_dataset()
    torch.testing.assert_close(
        read_validation_rows(ids, tokenizer, 16, 500), read_validation_rows(stream(), tokenizer, 16, 500)
    )


def test_nothing_to_read_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="no documents"):
        read_validation_rows(datasets.IterableDataset.from_generator(lambda: iter(())), tokenizer, 16, 500)
