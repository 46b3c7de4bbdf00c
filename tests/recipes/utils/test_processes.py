"""What is set before processes join."""

import os

import pytest

from recipes.utils.processes import ALLOCATOR_SETTINGS, use_expandable_segments


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in ALLOCATOR_SETTINGS if name in os.environ}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ALLOCATOR_SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is taken back after the test
        monkeypatch.delenv(name)


def test_a_gpus_memory_comes_in_segments_that_grow():
    use_expandable_segments()
    assert settings() == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


@pytest.mark.parametrize("name", ALLOCATOR_SETTINGS)
def test_an_allocator_that_the_user_has_set_up_stays_so(name, monkeypatch):
    monkeypatch.setenv(name, "max_split_size_mb:512")
    use_expandable_segments()
    assert settings() == {name: "max_split_size_mb:512"}
