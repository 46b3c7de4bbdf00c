"""Replies of a model behind an OpenAI-compatible server, as the same events as those of a model that is loaded here.

Calls of the calculator that the server hands out are run here.
"""

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from recipes.inference.generate import MAX_CALLS, TOOLS, Sampling
from recipes.inference.openai_client import BrokenOff, EndpointError, NoConnection, OpenAIClient, Refused
from recipes.inference.streaming import Call, Event, Reply, Result, Text
from recipes.utils.errors import InputError
from tokenizer.chat import CALCULATOR, Message, call_expression

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 300.0  # until it accepts a connection; until the next piece of an answer
SHOWN = 200  # characters of a refusal
STOP_SECONDS = 0.05  # within which a stop is noticed


class Endpoint:
    """A model that is served at `url`, as http://localhost:8000 or http://localhost:8000/v1.

    `model` is the name to ask for; a server of a single model needs none. `max_tokens` bounds each answer; None
    leaves that to the server. `key` is sent as a bearer token; the user's login to the Hub never is. Raises
    `InputError` if `url` is not a URL, or holds a password.
    """

    def __init__(
        self, url: str, model: str | None = None, key: str | None = None, max_tokens: int | None = None
    ) -> None:
        self.client = OpenAIClient(url, "endpoint", key, ANSWER_SECONDS, CONNECT_SECONDS)
        self.model, self.max_tokens = model, max_tokens

    def stream_reply(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event | None = None
    ) -> Iterator[Event]:
        """The reply to a conversation as it is written; the last event is the `Reply`, also after `stop` has been set.

        Of `sampling`, temperature, top_p and seed are sent: the API knows no others. Raises `InputError` if the
        endpoint does not answer, or breaks off before the end of its answer.
        """
        stop = stop or threading.Event()
        new: list[Message] = []
        for calls_left in range(MAX_CALLS, -1, -1):
            said, calls = "", Calls()
            for delta in until(stop, self._deltas([*messages, *new], sampling)):
                calls.take(delta.get("tool_calls") or [])
                if piece := delta.get("content"):
                    said += piece
                    yield Text(piece)
            message: Message = {"role": "assistant", "content": said}
            new.append(message)
            if stop.is_set() or calls_left == 0 or not calls.made:
                break
            message["tool_calls"] = calls.made
            for call in calls.made:
                expression = call_expression({"tool_calls": [call]})
                yield Call(expression)
                known = call["function"]["name"] == CALCULATOR
                result = TOOLS[CALCULATOR](expression) if known else "error: no such tool"
                yield Result(result)
                new.append({"role": "tool", "name": CALCULATOR, "content": result})
        yield Reply(new, stopped=stop.is_set())

    def _deltas(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[dict[str, Any]]:
        """The answer to one request, piece by piece."""
        options = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": sampling.temperature,
            "top_p": None if sampling.top_p == 1 else sampling.top_p,
            "seed": sampling.seed if sampling.temperature > 0 else None,
        }
        try:
            yield from self.client.stream(as_sent(messages), options)
        except EndpointError as error:
            raise InputError(f"endpoint {self.client.url} {self._complaint(error)}") from None

    def _complaint(self, error: EndpointError) -> str:
        if isinstance(error, Refused):
            unnamed = "" if self.model else " (asked without a --model)"
            return f"refuses{unnamed}: HTTP {error.status}: {error.reason[:SHOWN]}"
        if isinstance(error, NoConnection):
            return f"does not answer ({error}): is its server running?"
        return str(error) if isinstance(error, BrokenOff) else f"sends no chat completion: {error}"


def until(stop: threading.Event, items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`items` until `stop` is set. A thread waits for the next item, so that a stop is noticed at once."""
    arrived: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def read() -> None:
        try:
            with closing(items):
                for item in items:
                    arrived.put(item)
                    if left.is_set():
                        return
            arrived.put(None)
        except BaseException as error:  # raised where the items are read
            arrived.put(error)

    threading.Thread(target=read, name="endpoint", daemon=True).start()
    try:
        while not stop.is_set():
            try:
                item = arrived.get(timeout=STOP_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()


class Calls:
    """Collects the tool calls of one message, which come in pieces."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[str]] = {}  # index -> name and arguments

    def take(self, deltas: list[dict[str, Any]]) -> None:
        for delta in deltas:
            function, index = delta.get("function") or {}, delta.get("index") or 0
            name, arguments = self.pieces.setdefault(index, ["", ""])
            self.pieces[index] = [name + (function.get("name") or ""), arguments + (function.get("arguments") or "")]

    @property
    def made(self) -> list[dict[str, Any]]:
        """The calls as our messages hold them."""
        return [
            {"type": "function", "function": {"name": name, "arguments": as_mapping(arguments)}}
            for _, (name, arguments) in sorted(self.pieces.items())
        ]


def as_mapping(arguments: str) -> dict[str, Any]:
    """The arguments of a call; text that is not a JSON object counts as the expression."""
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {"expression": arguments}


def as_sent(messages: Sequence[Message]) -> list[Message]:
    """The conversation as the API wants it: arguments as JSON, and each call and its result under one id."""
    sent: list[Message] = []
    waiting: list[str] = []  # ids of calls whose results come next
    for number, message in enumerate(messages):
        copy = {"role": message["role"], "content": message["content"]}
        if message["role"] == "tool":
            copy["tool_call_id"] = waiting.pop(0)
        elif message.get("tool_calls"):
            waiting = [f"call_{number}_{index}" for index in range(len(message["tool_calls"]))]
            copy["tool_calls"] = [
                {"id": identity, "type": "function", "function": function_as_sent(call["function"])}
                for identity, call in zip(waiting, message["tool_calls"], strict=True)
            ]
        sent.append(copy)
    return sent


def function_as_sent(function: dict[str, Any]) -> dict[str, str]:
    return {"name": function["name"], "arguments": json.dumps(function["arguments"])}
