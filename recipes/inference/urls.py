"""URLs of OpenAI-compatible servers."""

import re
from urllib.parse import urlsplit

from recipes.utils.errors import InputError


def public_url(url: str) -> str:
    """A URL without user, password and query, which may be written and printed."""
    return re.sub(r"://[^/?#]*@", "://", re.split(r"[?#]", url)[0])


def api_urls(url: str, what: str) -> tuple[str, str]:
    """The URLs of the list of models and of chat completions.

    Raises `InputError` if `url` is not a URL or holds a password; `what` is what the message calls it.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if "@" in (parts.netloc if valid else url):
        raise InputError(f"the {what}'s URL holds a password, which others could see: use --api_key_env instead.")
    if not valid:
        raise InputError(f"{what} {public_url(url)} is not a URL: give one like http://localhost:8000/v1.")
    base = parts.path.rstrip("/")
    if base.endswith("/chat/completions"):
        base = base.removesuffix("/chat/completions")
    elif not base.endswith("/v1"):
        base += "/v1"
    models, chat = (parts._replace(path=f"{base}/{end}").geturl() for end in ("models", "chat/completions"))
    return models, chat
