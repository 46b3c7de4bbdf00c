"""Whether the Hub can be reached, answered within seconds."""

import http.client
import ssl
import urllib.error
import urllib.request

from huggingface_hub import constants

from recipes.errors import InputError

PROBE_SECONDS = 5


def check_hub_reachable(remedy: str) -> None:
    """Raise `InputError` within seconds if the Hub does not answer: left alone, the libraries retry for minutes.

    `remedy` ends the message: what needs the Hub, and what to do instead.
    """
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"the Hub is switched off by HF_HUB_OFFLINE, and {remedy}")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, whichever it is
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # it answered; whom to trust, huggingface_hub judges for itself
            why = str(reason).strip()
            raise InputError(f"the Hub ({constants.ENDPOINT}) cannot be reached ({why}), and {remedy}") from None
