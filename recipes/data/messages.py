"""Messages in the OpenAI format: what is a sound conversation, and how one is fitted to the model's context."""

import json
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

# As JSON a message comes back exactly as it went in; as an Arrow struct it would grow a None for each key it lacks.
CONVERSATIONS = datasets.Features({"messages": datasets.List(datasets.Json())})
MAX_DEPTH = 20  # of the arguments of a tool call
MAX_INTEGER = 2**63  # larger ones do not come back from Arrow's JSON as numbers


# Making messages


def user(content: str) -> Message:
    """What the user says."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """What the assistant says."""
    return {"role": "assistant", "content": content}


def calculator_call(content: str, expression: str, result: str) -> list[Message]:
    """Two messages: the assistant says `content` and calls the calculator, whose result follows."""
    call = {"type": "function", "function": {"name": CALCULATOR, "arguments": {"expression": expression}}}
    return [assistant(content) | {"tool_calls": [call]}, {"role": "tool", "name": CALCULATOR, "content": result}]


# What stands before and after the question and its choices. A model answers best in the words it was trained on.
WORDINGS = {
    PLAIN: ("", "Respond only with the letter."),
    NANOCHAT: ("Multiple Choice question: ", "\nRespond only with the letter of the correct answer."),
}


def render_multiple_choice(
    question: str, choices: Sequence[str], wording: str = PLAIN, letters: Sequence[str] = ascii_uppercase
) -> str:
    """The question as the user puts it, to be answered by one of the letters.

    The letter stands after its choice: once a choice is found, its letter is the next thing to read, which a small
    model learns far sooner than to look back past the text for it.
    """
    before, after = WORDINGS[wording]
    lettered = zip(choices, letters[: len(choices)], strict=True)
    return "\n".join([before + question, *(f"- {choice}={letter}" for choice, letter in lettered), after])


def choice_wording(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> str:
    """Which of `WORDINGS` a model is trained on and asked in: that of its tokenizer's chat format.

    A format that does not say is ours, but that of transformers' NanoChat is nanochat's, where these models come from.
    Raises `InputError` for words that we do not know.
    """
    name = tokenizer.init_kwargs.get(MULTIPLE_CHOICE, NANOCHAT if config.model_type == "nanochat" else PLAIN)
    if not isinstance(name, str) or name not in WORDINGS:
        where = f"{tokenizer.name_or_path}: {MULTIPLE_CHOICE} in tokenizer_config.json"
        raise InputError(f"{where} is {name!r:.50}: choose one of {', '.join(WORDINGS)}.")
    return name


# Checking messages


def check_messages(messages: Any) -> list[Message]:
    """The conversation with nothing in it but what the chat format knows; arguments in JSON text become a dict.

    An optional system message comes first; then user and assistant alternate, and the assistant has the last word.
    An assistant message with tool calls is followed by one tool message for each call, then by the assistant again.
    Raises `InputError` naming the first message (from 1) that is not as it should be.
    """
    if not isinstance(messages, list) or not messages:
        raise InputError("a conversation is a list of messages, and this is " + (_kind(messages) or "an empty list"))
    checked: list[Message] = []
    calls: list[dict] = []  # those that are not answered yet, in order
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
    """The message, sound by itself and at this place; takes what it answers from `calls`, and adds what it calls."""
    if not isinstance(message, dict):
        raise InputError(f"is {_kind(message)}, not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if role not in expected:
        had = f"role {role!r}" if role is not None else "no role"
        raise InputError(f"has {had} where {' or '.join(map(repr, expected))} is expected")
    tool_calls = message.get("tool_calls") or []
    if content is None and role == "assistant" and tool_calls:
        content = ""  # as OpenAI writes a message that is nothing but a call
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
    """Name of the tool that answers; results come in the order of the calls."""
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
    """Raise `InputError` for what would not come back from the dataset as it went in."""
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
    """The value's type in the words of JSON; empty for an empty list."""
    names = {
        dict: "an object",
        list: "a list" if value else "",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")


# Answers with nothing in them


def has_answers(messages: Sequence[Message]) -> bool:
    """Whether each message of the assistant has text or a call: an empty one would teach the model to be silent."""
    answers = (message for message in messages if message["role"] == "assistant")
    return all(message["content"].strip() or message.get("tool_calls") for message in answers)


def tell_empty_answers(where: str, count: int, kept: int) -> None:
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
    """The conversation, or as many of its exchanges from the start as fit into `max_tokens` tokens; None if none do.

    An exchange is a user's message and all that answers it, tool calls and their results included.
    """
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"]
    ends = [*starts[1:], len(messages)]  # of each exchange
    fitting = bisect_right(ends, max_tokens, key=lambda end: len(encode_conversation(tokenizer, messages[:end])[0]))
    return list(messages[: ends[fitting - 1]]) if fitting else None
