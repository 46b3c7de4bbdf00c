"""Plain text: text of models, servers and visitors without characters that control a terminal or page."""

import re

# Characters that a terminal or a page would interpret instead of showing them.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and new line; escape sequences begin with one
    "\u202a-\u202e\u2066-\u2069"  # change the direction of text, so that it reads as something else
    "\ud800-\udfff]"  # lone surrogates, which UTF-8 files cannot hold
)


def plain_text(text: str) -> str:
    """`text` without control characters. New lines and tabs are kept; `\\r\\n` becomes `\\n`."""
    return CONTROL.sub("", text)


def share(value: float, error: float | None = None) -> str:
    """A share in percent, with its standard error where that is known: 39.5 ± 2.0%."""
    return f"{value:.1%}" if error is None else f"{100 * value:.1f} ± {error:.1%}"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
