"""A Hub on this machine, where this process is Ada."""

import pytest
from huggingface_hub import constants

from tests.hub.client import hub_constants
from tests.hub.server import serve


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serve() as server:
        for name, value in hub_constants(server.url, tmp_path / "home").items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_adas_token")
        yield server
