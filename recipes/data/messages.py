"""Conversations in the OpenAI message format: making, checking, and fitting them to the model's context."""

import json
import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

import datasets
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from recipes.data.readers import warn_once
from recipes.utils.errors import InputError
from tokenizer.chat import CALCULATOR, MULTIPLE_CHOICE, NANOCHAT, PLAIN, Message, encode_conversation

# Stored as JSON, messages come back unchanged; as Arrow structs they would get a None for every key they lack.
CONVERSATIONS = datasets.Features({"messages": datasets.List(datasets.Json())})
MAX_DEPTH = 20  # nesting of a tool call's arguments
MAX_INTEGER = 2**63  # Arrow's JSON does not return larger integers as numbers

logger = logging.getLogger(__name__)


# Making messages


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def calculator_call(content: str, expression: str, result: str) -> list[Message]:
    """Two messages: the assistant says `content` and calls the calculator, whose result follows."""
    call = {"type": "function", "function": {"name": CALCULATOR, "arguments": {"expression": expression}}}
    return [assistant(content) | {"tool_calls": [call]}, {"role": "tool", "name": CALCULATOR, "content": result}]


# Text before and after a question with its choices. A model answers best in the wording it was trained on.
WORDINGS = {
    PLAIN: ("", "Respond only with the letter."),
    NANOCHAT: ("Multiple Choice question: ", "\nRespond only with the letter of the correct answer."),
}


def render_multiple_choice(
    question: str, choices: Sequence[str], wording: str = PLAIN, letters: Sequence[str] = ascii_uppercase
) -> str:
    """The user's message of a multiple-choice question, to be answered by one of the letters.

    Each letter follows its choice, as in nanochat: once attention has found the right choice, the letter is the next
    token, which a small model learns far sooner than looking back past the choice for it.
    """
    before, after = WORDINGS[wording]
    lettered = zip(choices, letters[: len(choices)], strict=True)
    return "\n".join([before + question, *(f"- {choice}={letter}" for choice, letter in lettered), after])


def choice_wording(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> str:
    """Which of `WORDINGS` a model is trained and evaluated with: the one that its tokenizer names.

    Tokenizers that name none use PLAIN, except those of transformers' NanoChat models, which come from nanochat.
    Raises `InputError` for an unknown wording.
    """
    name = tokenizer.init_kwargs.get(MULTIPLE_CHOICE, NANOCHAT if config.model_type == "nanochat" else PLAIN)
    if not isinstance(name, str) or name not in WORDINGS:
        where = f"{tokenizer.name_or_path}: {MULTIPLE_CHOICE} in tokenizer_config.json"
        raise InputError(f"{where} is {name!r:.50}: choose one of {', '.join(WORDINGS)}.")
    return name


# Checking messages


def check_messages(messages: Any) -> list[Message]:
    """Check a conversation, and reduce it to the keys that the chat format uses; JSON arguments become a dict.

    An optional system message comes first; then user and assistant alternate, and the assistant comes last. An
    assistant message with tool calls is followed by one tool message per call, then by the assistant again.
    Raises `InputError` naming the first message (from 1) that is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise InputError("a conversation is a list of messages, and this is " + (_kind(messages) or "an empty list"))
    checked: list[Message] = []
    calls: list[dict] = []  # not answered yet, in order
    expected = ("system", "user")
    for number, message in enumerate(messages, 1):
        try:
            checked.append(_check_message(message, expected, calls))
        except InputError as error:
            raise InputError(f"message {number} {error}") from None
        expected = _next_roles(checked[-1], calls)
    if calls:
        raise InputError(f"a call of {calls[0]['function']['name']!r} is not answered by a tool message")
    if checked[-1]["role"] != "assistant":
        role = checked[-1]["role"]
        raise InputError(f"message {len(messages)} is the last and has role {role!r} where 'assistant' is expected")
    return checked


def _check_message(message: Any, expected: tuple[str, ...], calls: list[dict]) -> Message:
    """Check one message in its place. Removes the call that it answers from `calls`, and adds the calls it makes."""
    if not isinstance(message, dict):
        raise InputError(f"is {_kind(message)}, not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if role not in expected:
        had = f"role {role!r}" if role is not None else "no role"
        raise InputError(f"has {had} where {' or '.join(map(repr, expected))} is expected")
    tool_calls = message.get("tool_calls") or []
    if content is None and role == "assistant" and tool_calls:
        content = ""  # OpenAI writes null for a message that only calls tools
    if not isinstance(content, str):
        raise InputError(f"has {_kind(content)} as its content, not text")
    _check_unicode(content)
    checked = {"role": role, "content": content}
    if role == "tool":
        checked["name"] = _answered_call(message, calls.pop(0))
    elif tool_calls:
        if role != "assistant":
            raise InputError(f"has role {role!r} and tool_calls, which only the assistant makes")
        if not isinstance(tool_calls, list):
            raise InputError(f"has {_kind(tool_calls)} as its tool_calls, not a list")
        checked["tool_calls"] = [_check_call(call) for call in tool_calls]
        calls.extend(tool_calls)
    return checked


def _next_roles(message: Message, calls: list[dict]) -> tuple[str, ...]:
    if calls:
        return ("tool",)
    return ("user",) if message["role"] in ("system", "assistant") else ("assistant",)


def _answered_call(message: Message, call: dict) -> str:
    """Name of the tool that a tool message answers for; results must come in the order of the calls."""
    called, answering = call["function"]["name"], message.get("name")
    if answering not in (None, called):
        raise InputError(f"is a result of {answering!r} where one of {called!r} is expected")
    if None not in (call.get("id"), message.get("tool_call_id")) and call["id"] != message["tool_call_id"]:
        raise InputError(f"answers the call {message['tool_call_id']!r} where {call['id']!r} is expected")
    return called


def _check_call(call: Any) -> dict:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError('has a tool call that is not {"type": "function", "function": {"name", "arguments"}}')
    name, arguments = function["name"], function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise InputError(f"calls {name!r} with arguments that are not JSON") from None
    if not isinstance(arguments, dict):
        raise InputError(f"calls {name!r} with {_kind(arguments)} as arguments, not an object")
    _check_values(arguments)
    _check_unicode(name)
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _check_values(value: Any, depth: int = 0) -> None:
    """Raise `InputError` for values that the dataset would not return unchanged."""
    if depth > MAX_DEPTH:
        raise InputError(f"calls a tool with arguments nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            _check_values(item, depth + 1)
    elif isinstance(value, str):
        _check_unicode(value)
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) < MAX_INTEGER):
        raise InputError(f"calls a tool with the number {str(value)[:30]}, which is not within 64 bits")


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("holds a lone surrogate, not valid Unicode") from None


def _kind(value: Any) -> str:
    """JSON name of the value's type; empty for an empty list."""
    names = {
        dict: "an object",
        list: "a list" if value else "",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")


# Empty answers


def has_answers(messages: Sequence[Message]) -> bool:
    """Whether every assistant message has text or a tool call. An empty one would teach the model to say nothing."""
    answers = (message for message in messages if message["role"] == "assistant")
    return all(message["content"].strip() or message.get("tool_calls") for message in answers)


def warn_of_empty_answers(where: str, count: int, kept: int) -> None:
    """Warn that of `count` conversations only `kept` have answers. Raises `InputError` if none has."""
    if not kept:
        raise InputError(
            f"{where}: there is nothing to learn from: in each of {count:,} conversations an answer is empty."
        )
    if kept < count:
        warn_once(f"{where}: left out {count - kept:,} of {count:,} conversations, in which an answer is empty")


# Fitting to the context


def fit_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_tokens: int
) -> list[Message] | None:
    """The longest beginning of whole exchanges that fits into `max_tokens` tokens; None if not even one fits.

    An exchange is a user message and everything that answers it, including tool calls and their results.
    """
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"]
    ends = [*starts[1:], len(messages)]  # of each exchange
    fitting = bisect_right(ends, max_tokens, key=lambda end: len(encode_conversation(tokenizer, messages[:end])[0]))
    return list(messages[: ends[fitting - 1]]) if fitting else None


def warn_of_truncation(count: int, kept: int, truncated: int, max_tokens: int) -> None:
    """Warn that of `count` conversations some were truncated or dropped. Raises `InputError` if none was kept."""
    if not kept:
        raise InputError(f"none of the {count:,} conversations fits into {max_tokens:,} tokens.")
    if truncated or kept < count:
        logger.warning(
            f"truncated {truncated:,} and dropped {count - kept:,} of {count:,} conversations that do not fit into "
            f"{max_tokens:,} tokens"
        )
