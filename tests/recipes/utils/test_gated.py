"""A model that the Hub does not hand out is one line that says why and what to do."""

import pytest
from huggingface_hub import constants

from recipes.utils.errors import InputError
from recipes.utils.loading import load_config, load_tokenizer, load_weights
from tests.hub.client import hub_constants
from tests.hub.server import serve
from tests.hub.store import Refused

LOADERS = {
    "configuration": load_config,
    "tokenizer": load_tokenizer,
    "weights": lambda name: load_weights(name, None),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, and nobody logged in."""
    with serve() as server:
        for name, value in hub_constants(server.url, tmp_path / "home").items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model(hub, load, status):
    refused = Refused(status, "Access to model lab/llama is restricted.", "GatedRepo")
    hub.meddle = lambda method, path: refused if "lab/llama" in path else None
    with pytest.raises(InputError) as error:
        load("lab/llama")
    page = f"{hub.url}/lab/llama"
    expected = f"lab/llama is gated on the Hub: accept its conditions at {page}, then log in by `hf auth login`."
    assert str(error.value) == expected


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_model_that_is_missing_or_private(hub, load):
    with pytest.raises(InputError) as error:
        load("lab/nothing")
    expected = "the Hub has no lab/nothing, or it is private: check the name, or log in by `hf auth login`."
    assert str(error.value) == expected
