"""What the tests of training share."""

import pytest
from transformers import PreTrainedTokenizerFast

from evals.tokenizer.samples import DOMAINS
from tokenizer.bpe import train_tokenizer


@pytest.fixture(scope="package")
def tokenizer() -> PreTrainedTokenizerFast:
    """Ours, of 300 tokens."""
    return train_tokenizer(list(DOMAINS.values()), vocab_size=300)
