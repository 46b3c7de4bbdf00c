"""Text made harmless: what a model, a server or a visitor has written shows as text, and does nothing."""

import re

# Characters that a terminal or a page would obey instead of showing them.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and new line; every escape sequence begins with one
    "\u202a-\u202e\u2066-\u2069"  # reverse the order of what follows, so that it reads as something else
    "\ud800-\udfff]"  # halves of characters (lone surrogates), which no file can hold
)


def plain_text(text: str) -> str:
    """`text` without the characters that would be obeyed. New lines and tabs stay; `\\r\\n` becomes `\\n`."""
    return OBEYED.sub("", text)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
