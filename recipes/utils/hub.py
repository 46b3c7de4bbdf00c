"""The Hub before anything is asked of it: whether it can be reached, answered within seconds, and names there."""

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
    """Raise `InputError` unless `repo` can be the full name of a repository on the Hub."""
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo):
        raise InputError(f"{repo!r} is no repository on the Hub: give user/name.")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no repository on the Hub: {' '.join(str(error).split())}") from None


def check_hub_reachable(remedy: str) -> None:
    """Raise `InputError` within seconds if the Hub does not answer: left alone, the libraries retry for minutes.

    `remedy` ends the message: what needs the Hub, and what to do instead.
    """
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"the Hub is switched off by HF_HUB_OFFLINE, and {remedy}")
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, whichever it is
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # it answered; whom to trust, huggingface_hub judges for itself
            why = str(reason).strip()
            raise InputError(f"the Hub ({constants.ENDPOINT}) cannot be reached ({why}), and {remedy}") from None
    except ValueError:
        raise InputError(f"HF_ENDPOINT is no address of a Hub: {constants.ENDPOINT!r}, and {remedy}") from None
