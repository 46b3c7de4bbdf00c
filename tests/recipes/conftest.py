"""A tokenizer, a corpus and arguments small enough to train in a second or two."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Config

from recipes.data.corpora import open_corpus
from tokenizer.train import train_tokenizer


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """A few hundred documents of the primer."""
    return [row["text"] for row in open_corpus("primer").validation.take(400)]


@pytest.fixture(scope="session")
def corpus(documents, tmp_path_factory) -> Path:
    """A directory of two files: one to train on, one to validate on."""
    directory = tmp_path_factory.mktemp("corpus")
    for name, part in (("0", documents[:360]), ("1", documents[360:])):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return directory


@pytest.fixture(scope="session")
def tokenizer_dir(documents, tmp_path_factory) -> Path:
    """Ours, of 512 tokens."""
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(documents, vocab_size=512).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny(corpus, tokenizer_dir) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {
        "dataset": corpus,
        "tokenizer": tokenizer_dir,
        "depth": 1,
        "max_seq_len": 32,
        "device_batch_size": 2,
        "total_batch_size": 128,
        "num_iterations": 6,
        "eval_every": 3,
        "eval_tokens": 256,
        "save_every": 2,
        "sample_every": -1,
        "compile": "false",
    }


@pytest.fixture(scope="session")
def gpt2_config(tmp_path_factory) -> Path:
    """config.json of a GPT-2 of one layer, with the dropout that GPT-2 has by default."""
    directory = tmp_path_factory.mktemp("gpt2")
    GPT2Config(n_layer=1, n_head=2, n_embd=32, n_positions=64).save_pretrained(directory)
    return directory / "config.json"
