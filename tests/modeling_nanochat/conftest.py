"""What the tests of the model share."""

import pytest
import torch

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import random_model


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Matrices this small gain nothing from threads, which wait long for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> NanochatGPTForCausalLM:
    """A tiny model, fresh for each test, with all its weights random."""
    return random_model()
