"""What the tests of training share."""

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from transformers import PreTrainedTokenizerFast

from tokenizer.samples import DOMAINS
from tokenizer.train import train_tokenizer


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Matrices this small gain nothing from threads, which wait long for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
