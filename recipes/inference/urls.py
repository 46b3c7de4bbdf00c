"""Addresses of OpenAI-compatible servers, as people write them."""

import re
from urllib.parse import urlsplit

from recipes.utils.errors import InputError


def public_url(url: str) -> str:
    """A URL that may be written and printed: without its user, password and query."""
    return re.sub(r"://[^/?#]*@", "://", re.split(r"[?#]", url)[0])


def api_urls(url: str, what: str) -> tuple[str, str]:
    """Where the models are listed, and where chat completions are asked for.

    Raises `InputError` for no such URL, and for one that holds a password; `what` is what it is the URL of.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if "@" in (parts.netloc if valid else url):
        raise InputError(f"the {what}'s URL holds a password, which others could see: use --api_key_env instead.")
    if not valid:
        raise InputError(f"{what} {public_url(url)} is no URL: give one like http://localhost:8000/v1.")
    base = parts.path.rstrip("/")
    if base.endswith("/chat/completions"):
        base = base.removesuffix("/chat/completions")
    elif not base.endswith("/v1"):
        base += "/v1"
    models, chat = (parts._replace(path=f"{base}/{end}").geturl() for end in ("models", "chat/completions"))
    return models, chat
