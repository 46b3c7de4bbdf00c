"""Tokenizers small enough to train in the tests."""

from copy import deepcopy

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evals.tokenizer.samples import DOMAINS
from tokenizer.bpe import save_tokenizer, train_tokenizer
from tokenizer.chat import add_chat_template


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """The embedded samples, one paragraph a document."""
    return [paragraph for text in DOMAINS.values() for paragraph in text.split("\n\n")]


@pytest.fixture(scope="session")
def tokenizer(documents) -> PreTrainedTokenizerFast:
    """Ours, of 600 tokens."""
    return train_tokenizer(documents, vocab_size=600)


@pytest.fixture(scope="session")
def gpt2_like(documents) -> PreTrainedTokenizerFast:
    """Built like GPT-2's: its own split pattern, `<|endoftext|>` for bos and eos, which is put in front of nothing."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        documents, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def reloaded(tokenizer, tmp_path_factory) -> PreTrainedTokenizerFast:
    """Ours, saved and loaded again as anyone would."""
    directory = tmp_path_factory.mktemp("reloaded") / "tokenizer"
    save_tokenizer(tokenizer, directory)
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="session")
def gpt2_chat(gpt2_like) -> PreTrainedTokenizerFast:
    """The GPT-2-like one, taught our chat format."""
    grown = deepcopy(gpt2_like)
    add_chat_template(grown)
    return grown


@pytest.fixture(scope="session")
def gpt2_chat_reloaded(gpt2_chat, tmp_path_factory) -> PreTrainedTokenizerFast:
    """The same, saved and loaded again."""
    directory = tmp_path_factory.mktemp("gpt2") / "tokenizer"
    gpt2_chat.save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)
