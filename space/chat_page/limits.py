"""Limits on what one visitor may ask for, so that the page stays usable for the others."""

from typing import Any

from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text

MAX_MESSAGE = 8_000  # characters
MAX_SYSTEM = 2_000
MAX_CONVERSATION = 100_000  # characters of all messages; the model reads the newest that fit into its context
MAX_TURNS = 50
MAX_NEW_TOKENS = 1_024
MAX_SECONDS = 60  # for one answer; on ZeroGPU the visitor's quota must have as much left
MAX_WAITING = 60  # answers in the queue
SESSIONS = 200  # remembered by the server, about 200 kB each; more than can wait in the queue


def check_message(text: str) -> str:
    """The message without control characters. Raises `InputError` if it is empty or too long."""
    check_length("message", text, MAX_MESSAGE)
    text = plain_text(text)
    if not text.strip():
        raise InputError("The message is empty: write something.")
    return text


def check_length(what: str, text: Any, most: int) -> None:
    """Raise `InputError` unless `text` is a string of at most `most` characters."""
    if not isinstance(text, str):
        raise InputError(f"The {what} must be text.")
    if len(text) > most:
        raise InputError(f"The {what} has {len(text):,} characters, and {most:,} are allowed: shorten it.")
