"""Addresses of servers are understood as people write them, and secrets in them are not repeated."""

import pytest

from recipes.inference.urls import api_urls, public_url
from recipes.utils.errors import InputError


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/api", "https://h/api/v1"),
        ("https://h/openai/chat/completions?version=2", "https://h/openai"),
    ],
)
def test_an_endpoint_may_be_named_by_any_of_its_usual_urls(url, base):
    query = "?version=2" if "?" in url else ""
    assert api_urls(url, "endpoint") == (f"{base}/models{query}", f"{base}/chat/completions{query}")


@pytest.mark.parametrize("url", ["http://h/v1?api_key=X", "http://u:p@h/v1", "http://h/v1#x", "http://h/v1"])
def test_the_public_url_is_without_secrets(url):
    assert public_url(url) == "http://h/v1"


@pytest.mark.parametrize("url", ["h:1", "ftp://h", "http://", "http://h:0", "http://[", ""])
def test_what_is_no_url_is_named_with_what_it_is_for(url):
    with pytest.raises(InputError, match="^judge .*is not a URL"):
        api_urls(url, "judge")


@pytest.mark.parametrize("url", ["http://me:secret@h/v1", "http://h:x@y"])
def test_a_password_is_refused_and_not_repeated(url):
    with pytest.raises(InputError, match="holds a password") as caught:
        api_urls(url, "endpoint")
    assert "secret" not in str(caught.value)
