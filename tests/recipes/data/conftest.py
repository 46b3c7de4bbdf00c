import pytest

from recipes.data.readers import warn_once


@pytest.fixture(autouse=True)
def warnings_are_news():
    """Warnings that are given once a process are given once a test."""
    warn_once.cache_clear()
