"""What the tests of the model share."""

import pytest

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import GENERATIONS, random_model


@pytest.fixture(params=GENERATIONS)
def generation(request) -> int:
    """Each generation of the model in turn."""
    return request.param


@pytest.fixture
def model(generation) -> NanochatGPTForCausalLM:
    """A tiny model of each generation, fresh for each test, with all its weights random."""
    return random_model(generation=generation)
