"""Convert a conversation between the page's format and the model's.

The only copy is the page's: it lives in the visitor's browser and comes with every question. The server keeps nothing
of it, so a server that was restarted continues the conversation where it stands.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from recipes.inference.generate import Call, Event, Result, Text, render_prompt
from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text
from tokenizer.chat import CALCULATOR, Message

from .limits import MAX_CONVERSATION, MAX_TURNS

Shown = dict[str, Any]  # a message as gr.Chatbot has it

CALCULATION = "Calculator"  # title of the folded message with a call and its result
EQUALS = "\n= "  # between expression and result; a result never contains a line end

# gr.Chatbot renders text as HTML even without Markdown, and no option prevents it. A zero-width space after each
# character that would begin a tag or an entity makes it plain text again. `&lt;` would be edited and copied as `&lt;`.
NO_WIDTH = "\N{ZERO WIDTH SPACE}"
HTML_BEGINS = re.compile(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])")


def shown_text(role: str, text: str) -> Shown:
    """A message that shows `text` literally, HTML included. (A bare string would lose outer spaces.)"""
    plain = HTML_BEGINS.sub(rf"\g<0>{NO_WIDTH}", text)
    return {"role": role, "content": [{"type": "text", "text": plain}]}


def shown_call(expression: str, result: str) -> Shown:
    """A folded message with a call of the calculator and its result."""
    message = shown_text("assistant", f"{expression}{EQUALS}{result}")
    return message | {"metadata": {"title": CALCULATION, "status": "done"}}


def text_of(message: Shown) -> str:
    """Text of a message that came from a browser; it may be anything that a visitor sent."""
    return typed("".join(part["text"] for part in message["content"] if part["type"] == "text"))


def typed(text: str) -> str:
    """The original of a text on the page: without what `shown_text` added, and without control characters."""
    return plain_text(re.sub(rf"([<&]){NO_WIDTH}", r"\1", text))


def is_call(message: Shown) -> bool:
    return (message.get("metadata") or {}).get("title") == CALCULATION


def tidy(shown: Sequence[Shown]) -> list[Shown]:
    """Rebuild a conversation that came from a browser from the parts that this page creates.

    Raises `InputError` if it has become too long.
    """
    messages = []
    for message in shown:
        text = text_of(message)
        expression, equals, result = text.rpartition(EQUALS)
        if message["role"] == "user":
            messages.append(shown_text("user", text))
        elif message["role"] == "assistant":
            called = is_call(message) and equals
            messages.append(shown_call(expression, result) if called else shown_text("assistant", text))
    if sum(message["role"] == "user" for message in messages) > MAX_TURNS:
        raise InputError(f"A conversation may have {MAX_TURNS} questions: clear this one to start over.")
    if sum(len(text_of(message)) for message in messages) > MAX_CONVERSATION:
        raise InputError(
            f"The conversation has more than {MAX_CONVERSATION:,} characters: clear this one to start over."
        )
    return messages


def last_question(shown: Sequence[Shown]) -> int:
    """Index of the newest question; 0 if there is none."""
    return max((index for index, message in enumerate(shown) if message["role"] == "user"), default=0)


def as_messages(shown: Sequence[Shown]) -> list[Message]:
    """Messages of the page in the OpenAI format; questions and answers alternate."""
    messages: list[Message] = []
    for message in shown:
        text, last = text_of(message), messages[-1] if messages else None
        if message["role"] == "user":
            if last is not None and (last["role"] != "assistant" or "tool_calls" in last):
                messages.append({"role": "assistant", "content": ""})  # nothing was said
            messages.append({"role": "user", "content": text})
        elif is_call(message):
            expression, _, result = text.rpartition(EQUALS)
            if last is None or last["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            call = {"name": CALCULATOR, "arguments": {"expression": expression}}
            messages[-1]["tool_calls"] = [{"type": "function", "function": call}]
            messages.append({"role": "tool", "name": CALCULATOR, "content": result})
        else:
            messages.append({"role": "assistant", "content": text})
    return messages


def fitting(
    tokenizer: PreTrainedTokenizerBase, system: str, messages: list[Message], most: int
) -> tuple[list[Message], int]:
    """Drop the oldest questions until the prompt has at most `most` tokens; the newest question is always kept.

    Returns the messages, instructions included, and the length of their prompt.
    """
    instructions = [{"role": "system", "content": system}] if system.strip() else []
    questions = [index for index, message in enumerate(messages) if message["role"] == "user"]

    def length(first: int) -> int:
        return len(render_prompt(tokenizer, instructions + messages[first:]))

    fits = bisect_left(questions[:-1], True, key=lambda first: length(first) <= most)
    first = questions[fits]
    return instructions + messages[first:], length(first)


class Answer:
    """An answer in the page's format, built event by event."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.text = ""  # generated since the last call of the calculator
        self.expression = ""

    def add(self, event: Event) -> None:
        """Append an event. The end of the reply adds nothing."""
        match event:
            case Text(text):
                if not self.text:
                    self.shown.append({})
                self.text += text
                self.shown[-1] = shown_text("assistant", self.text)
            case Call(expression):
                self.expression = plain_text(expression)
            case Result(text):
                self.shown.append(shown_call(self.expression, text))
                self.text = ""
