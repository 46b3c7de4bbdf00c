"""What the tests of the model share."""

import pytest

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import random_model


@pytest.fixture
def model() -> NanochatGPTForCausalLM:
    """A tiny model, fresh for each test, with all its weights random."""
    return random_model()
