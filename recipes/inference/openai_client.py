"""The one client of OpenAI-compatible servers: `transformers serve`, vLLM, SGLang, llama.cpp, OpenAI.

Built on httpx2, which huggingface_hub and openai use too, because neither of their clients (2.4 and 3.52) fits:
- both hide whether [DONE] has come, so an answer that was cut off looks complete;
- both fail on a message with a lone surrogate, which a model may well have written;
- InferenceClient splits events at U+2028, sends the model name "dummy" where none is given and the Hub login where no
  key is, and shares the Hub's session, which refuses every host under HF_HUB_OFFLINE; openai insists on a model name.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2

from recipes.inference.urls import api_urls, public_url
from recipes.utils.errors import InputError
from tokenizer.chat import Message

JSON = {"content-type": "application/json"}
QUOTED = 200  # characters of an answer that is not a chat completion


class EndpointError(Exception):
    """A request that was not answered by a chat completion. The message is one line and may quote the server."""


class NoConnection(EndpointError):
    """The server does not answer, or the connection was lost before the first byte of an answer."""


class TooSlow(NoConnection):
    """The client's timeout has passed without a byte from the server."""


class Refused(EndpointError):
    """An HTTP error. `reason` is the server's, and `retry_after` in seconds if it named a time."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status, self.reason = response.status_code, reason_of(response)
        self.retry_after = seconds(response.headers.get("retry-after"))
        super().__init__(f"HTTP {self.status}: {self.reason}")


class NotAChatCompletion(EndpointError):
    """Something else was answered."""


class BrokenOff(EndpointError):
    """An error, or the end of the connection, in the middle of an answer."""


class OpenAIClient:
    """Sends requests to the server at `url`, as http://localhost:8000 or http://localhost:8000/v1.

    `key` is sent as a bearer token. Timeouts are in seconds: `timeout` without a byte from the server,
    `connect_timeout` (default: the same) until it accepts a connection. Proxies come from the environment
    (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). The attribute `url` is without the query, which may hold a key.
    Safe to share among threads. Raises `InputError` if `url` is not a URL or holds a password; `what` is what the
    message calls it.
    """

    def __init__(
        self, url: str, what: str, key: str | None, timeout: float, connect_timeout: float | None = None
    ) -> None:
        self.models_url, self.chat_url = api_urls(url, what)
        self.url = public_url(url)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx2.Timeout(timeout, connect=timeout if connect_timeout is None else connect_timeout)
        self.http = httpx2.Client(headers=headers, timeout=limits)

    def list_models(self, timeout: float) -> list[str] | None:
        """Names of the models that are served; None from a server that does not list them.

        Raises `NoConnection`, and `Refused` for a key that is wrong or missing (HTTP 401 and 403).
        """
        try:
            response = self.http.get(self.models_url, timeout=timeout, follow_redirects=True)
        except httpx2.HTTPError as error:
            raise connection_error(error) from None
        if response.status_code in (401, 403):
            raise Refused(response)
        try:
            return [str(each["id"]) for each in response.json()["data"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None

    def complete(self, messages: Sequence[Message], options: dict[str, Any]) -> str:
        """The content of the answer as a whole; empty where the message has none. Raises `EndpointError`."""
        content = encoded(messages, options | {"stream": False})
        try:
            response = self.http.post(self.chat_url, content=content, headers=JSON, follow_redirects=True)
        except httpx2.HTTPError as error:
            raise connection_error(error) from None
        if not response.is_success:
            raise Refused(response)
        try:
            text = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise NotAChatCompletion(one_line(response.text)) from None
        return text if isinstance(text, str) else ""

    def stream(self, messages: Sequence[Message], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The deltas of an answer as they come: `content` and `tool_calls` have the API's types or are missing.

        Raises `EndpointError`. A stream has ended where it says so, by a reason to finish or by [DONE]; some servers
        send only one of them.
        """
        content = encoded(messages, options | {"stream": True})
        answered = ended = False
        try:
            with self.http.stream("POST", self.chat_url, content=content, headers=JSON) as response:
                if not response.is_success:
                    response.read()
                    raise Refused(response)
                for data in event_data(response):
                    if data == "[DONE]":
                        return
                    if not data:
                        continue
                    delta, reason_to_finish = parse_chunk(data)
                    answered, ended = True, ended or reason_to_finish is not None
                    yield delta
        except httpx2.HTTPError as error:
            if not answered:
                raise connection_error(error) from None
            if not ended:
                raise BrokenOff(f"broke off in the middle of its answer: {one_line(error)}") from None
        if not answered:
            raise NotAChatCompletion("is that the URL of its API?")
        if not ended:
            raise BrokenOff("broke off in the middle of its answer.")


def event_data(response: httpx2.Response) -> Iterator[str]:
    """The data of each server-sent event, which is one line in this API.

    Not `response.iter_lines`, which also splits at characters that JSON may hold unescaped, as U+2028; and not
    `httpx2.EventSource`, which drops a last event that no empty line follows.
    """
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line[5:].decode(errors="replace").strip() for line in lines if line.startswith(b"data:"))
    if rest.startswith(b"data:"):
        yield rest[5:].decode(errors="replace").strip()


def parse_chunk(data: str) -> tuple[dict[str, Any], str | None]:
    """What one event of a stream adds to the message, and why the message ends, if it does.

    Raises `BrokenOff` for an error that the server tells in its stream, `NotAChatCompletion` for what the API does
    not allow.
    """
    try:
        chunk = json.loads(data)
        error = chunk.get("error")
        choices = [] if error else chunk["choices"]  # empty in an event that tells the usage
        choice = choices[0] if choices else {}
        delta, reason_to_finish = choice.get("delta") or {}, choice.get("finish_reason")
        check_delta(delta)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NotAChatCompletion(data[:QUOTED]) from None
    if error:
        raise BrokenOff(f"broke off: {one_line(error)}")
    return delta, reason_to_finish


def check_delta(delta: dict[str, Any]) -> None:
    """Raise `TypeError` or `AttributeError` unless what is read of a delta has the types of the API."""
    calls = delta.get("tool_calls") or []
    functions = [call.get("function") or {} for call in calls]
    texts = [delta.get("content"), *(function.get(name) for function in functions for name in ("name", "arguments"))]
    indices = [call.get("index") for call in calls]
    if not all(isinstance(text, str | None) for text in texts) or not all(isinstance(i, int | None) for i in indices):
        raise TypeError("not the types of the API")


def encoded(messages: Sequence[Message], options: dict[str, Any]) -> bytes:
    """The body of a request, without options that are None. ASCII, in which a lone surrogate can be sent too."""
    return json.dumps({"messages": messages} | {key: v for key, v in options.items() if v is not None}).encode()


def connection_error(error: httpx2.HTTPError) -> NoConnection:
    return (TooSlow if isinstance(error, httpx2.TimeoutException) else NoConnection)(one_line(error))


def reason_of(response: httpx2.Response) -> str:
    """What a response that is an error says, on one line."""
    try:
        said = response.json()
        said = said.get("detail") or said.get("message") or said.get("error") or said
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        said = response.text
    return " ".join(str(said).split()) or response.reason_phrase


def one_line(error: object) -> str:
    """The message of an error, or its kind where it has none."""
    return " ".join(str(error).split())[:QUOTED] or type(error).__name__


def seconds(retry_after: str | None) -> float | None:
    """A Retry-After header in seconds; a date counts as none."""
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable, None without a variable. Raises `InputError` if that holds no key."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"environment variable {variable} holds no key: set it, or leave out api_key_env.")
    return key
