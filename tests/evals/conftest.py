"""What the tests of evaluations share."""

import pytest

from evals.tokenizer.samples import DOMAINS
from tokenizer.bpe import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    """Ours, of 300 tokens."""
    return train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=300)
