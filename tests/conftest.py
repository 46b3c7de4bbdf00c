"""What all tests share."""

import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings

from tests.hub.client import hub_constants
from tests.hub.server import serve

settings.register_profile("unhurried", deadline=None)  # on a busy machine an example may take seconds
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Matrices this small gain nothing from threads, which wait long for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, where this process is Ada."""
    with serve() as server:
        for name, value in hub_constants(server.url, tmp_path / "home").items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_adas_token")
        yield server
