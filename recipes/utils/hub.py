"""Check repository ids, and whether the Hub can be reached, within seconds and before anything is requested."""

import http.client
import re
import ssl
import urllib.error
import urllib.request

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
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


def explain_refusal(error: BaseException | None, repo: str) -> str | None:
    """What to do if `error`, or one that caused it, is that the Hub does not hand out `repo`; None if it is not."""
    while error is not None:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if isinstance(error, GatedRepoError):
            page = f"{constants.ENDPOINT}/{repo}"
            return f"{repo} is gated on the Hub: accept its conditions at {page}, then log in by `hf auth login`."
        if isinstance(error, RepositoryNotFoundError):
            return f"the Hub has no {repo}, or it is private: check the name, or log in by `hf auth login`."
        if status in (401, 403):
            return f"the Hub refuses {repo} (HTTP {status}): log in by `hf auth login` with a token that may read it."
        error = error.__cause__ or error.__context__
    return None
