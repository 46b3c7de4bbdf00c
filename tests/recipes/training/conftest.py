"""What the tests of training share."""

import pytest
from accelerate.state import AcceleratorState, GradientState
from transformers import PreTrainedTokenizerFast

from tokenizer.samples import DOMAINS
from tokenizer.train import train_tokenizer


@pytest.fixture(scope="package")
def tokenizer() -> PreTrainedTokenizerFast:
    """Ours, of 300 tokens."""
    return train_tokenizer(list(DOMAINS.values()), vocab_size=300)


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps its state in the process: forget it before the test and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
