"""Replies of a model behind an OpenAI-compatible endpoint: `transformers serve`, vLLM, SGLang, llama.cpp, OpenAI.

They come as the same events as those of a model that is loaded here. Where the endpoint hands out a call of the
calculator, it is run here.
"""

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import httpx2

from recipes.inference.generate import MAX_CALLS, TOOLS, Sampling
from recipes.inference.streaming import Call, Event, Reply, Result, Text
from recipes.inference.urls import api_urls, public_url
from recipes.utils.errors import InputError
from tokenizer.chat import CALCULATOR, Message, call_expression

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 300.0  # until it answers at all; and until the next piece of an answer
JSON = {"content-type": "application/json"}
STOP_SECONDS = 0.05  # within which a stop is noticed


class Endpoint:
    """A model that is served at `url`, as http://localhost:8000 or http://localhost:8000/v1.

    `model` is the name to ask for; without one the server has to know, as one that serves a single model does.
    `max_tokens` bounds each answer; None leaves that to the server too. `key` is sent as a bearer token; the user's
    login to the Hub never is. Raises `InputError` if `url` is none, or holds a password.
    """

    def __init__(
        self, url: str, model: str | None = None, key: str | None = None, max_tokens: int | None = None
    ) -> None:
        _, self.chat_url = api_urls(url, "endpoint")
        self.url = public_url(url)
        self.model, self.max_tokens = model, max_tokens
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS))

    def stream_reply(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event | None = None
    ) -> Iterator[Event]:
        """The reply to a conversation as it is written; the last event is the `Reply`, also after `stop` has been set.

        Of `sampling` go temperature, top_p and seed, which are all that the API knows. Raises `InputError` where the
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
        """What one request is answered, piece by piece."""
        body = {"messages": as_sent(messages), "stream": True, "temperature": sampling.temperature}
        optional = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "top_p": None if sampling.top_p == 1 else sampling.top_p,
            "seed": sampling.seed if sampling.temperature > 0 else None,
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        content = json.dumps(body)  # in ASCII: a server may have sent half a character
        answered = ended = False  # the end is a reason to finish, or [DONE]; some servers send only one of them
        try:
            with self.client.stream("POST", self.chat_url, content=content, headers=JSON) as response:
                if not response.is_success:
                    response.read()
                    unnamed = "" if self.model else " (asked without a --model)"
                    raise InputError(f"endpoint {self.url} refuses{unnamed}: {refusal(response)}")
                for line in response.iter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        return
                    if data:
                        delta, reason_to_finish = self._delta(data)
                        answered, ended = True, ended or reason_to_finish is not None
                        yield delta
            if not answered:
                raise InputError(f"endpoint {self.url} sends no chat completion: is that the URL of its API?")
            if not ended:
                raise InputError(f"endpoint {self.url} broke off in the middle of its answer.")
        except httpx2.HTTPError as error:
            if ended:
                return
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if answered:
                raise InputError(f"endpoint {self.url} broke off in the middle of its answer: {reason}") from None
            raise InputError(f"endpoint {self.url} does not answer ({reason}): is its server running?") from None

    def _delta(self, data: str) -> tuple[dict[str, Any], str | None]:
        """What one event of the stream adds to the message, and why the message ends, if it does."""
        try:
            event = json.loads(data)
            if event.get("error"):
                raise InputError(f"endpoint {self.url} broke off: {' '.join(str(event['error']).split())[:200]}")
            choices = event["choices"]  # none in an event that tells the usage
            choice = choices[0] if choices else {}
            delta, reason_to_finish = choice.get("delta") or {}, choice.get("finish_reason")
            check_delta(delta)
        except InputError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise InputError(f"endpoint {self.url} sends no chat completion: {data[:200]}") from None
        return delta, reason_to_finish


def check_delta(delta: dict[str, Any]) -> None:
    """Raise `TypeError` or `AttributeError` unless what is read of a delta is of the types that the API gives it."""
    functions = [call.get("function") or {} for call in delta.get("tool_calls") or []]
    texts = [delta.get("content"), *(function.get(name) for function in functions for name in ("name", "arguments"))]
    numbers = [call.get("index") for call in delta.get("tool_calls") or []]
    if not all(isinstance(text, str | None) for text in texts) or not all(
        isinstance(number, int | None) for number in numbers
    ):
        raise TypeError("not the types of the API")


def until(stop: threading.Event, items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`items` until `stop` is set, which is noticed at once: it is a thread that waits for the next one."""
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
    """The tool calls of one message, which come in pieces."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[str]] = {}  # name and arguments by number

    def take(self, deltas: list[dict[str, Any]]) -> None:
        """Add what has come."""
        for delta in deltas:
            function, index = delta.get("function") or {}, delta.get("index") or 0
            name, arguments = self.pieces.setdefault(index, ["", ""])
            self.pieces[index] = [name + (function.get("name") or ""), arguments + (function.get("arguments") or "")]

    @property
    def made(self) -> list[dict[str, Any]]:
        """The calls as they stand in a message of ours."""
        return [
            {"type": "function", "function": {"name": name, "arguments": as_mapping(arguments)}}
            for _, (name, arguments) in sorted(self.pieces.items())
        ]


def as_mapping(arguments: str) -> dict[str, Any]:
    """The arguments of a call; text that is no JSON object counts as the expression."""
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
    """Name and arguments of a call, these as JSON."""
    return {"name": function["name"], "arguments": json.dumps(function["arguments"])}


def refusal(response: httpx2.Response) -> str:
    """Status and reason of a response that is an error, on one short line."""
    try:
        said = response.json()
        said = said.get("detail") or said.get("message") or said.get("error") or said
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = response.text
    return f"HTTP {response.status_code}: {' '.join(str(said).split())[:200] or response.reason_phrase}"
