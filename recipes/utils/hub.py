"""Check repository ids, and whether the Hub can be reached, within seconds and before anything is requested."""

import http.client
import re
import ssl
import urllib.error
import urllib.request

from huggingface_hub import constants
from huggingface_hub.utils import HFValidationError, validate_repo_id

from recipes.utils.errors import InputError

PROBE_SECONDS = 5


def check_repo_id(repo: str) -> None:
    """Raise `InputError` unless `repo` is a valid repository id (user/name)."""
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo):
        raise InputError(f"{repo!r} is not a repository id: give user/name.")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{repo!r} is not a repository id: {' '.join(str(error).split())}") from None


def check_hub_reachable(remedy: str) -> None:
    """Raise `InputError` within seconds if the Hub does not answer; the libraries would retry for minutes.

    `remedy` ends the message: what needs the Hub, and what to do instead.
    """
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"the Hub is switched off by HF_HUB_OFFLINE, and {remedy}")
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # any answer will do
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # it did answer; huggingface_hub has its own certificates
            why = str(reason).strip()
            raise InputError(f"the Hub ({constants.ENDPOINT}) cannot be reached ({why}), and {remedy}") from None
    except ValueError:
        raise InputError(f"HF_ENDPOINT is not the URL of a Hub: {constants.ENDPOINT!r}, and {remedy}") from None
