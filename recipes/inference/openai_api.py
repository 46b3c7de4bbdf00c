"""Additions to `transformers serve`: requests are validated, the context is a limit, errors have OpenAI's format.

    {"error": {"message": ..., "type": "invalid_request_error", "param": ..., "code": ...}}

A prompt that leaves no room in the model's context is refused (400, context_length_exceeded). One that leaves some is
answered within it, however many tokens the request allows: `finish_reason` then is "length".

Needs the extra `serve`.
"""

import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Json, Tag, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException as StarletteHTTPException
from transformers import GenerationConfig, PreTrainedModel
from transformers.cli.serving import server, utils

from recipes.inference.generate import context_length

CONTEXT_EXCEEDED = "context_length_exceeded"

# The fields of a request. Names of fields that are not here are checked by transformers serve.

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotEmpty = Annotated[str, Field(min_length=1)]
Object = dict[str, Any]


class Checked(BaseModel):
    """Strictly typed: nothing is converted."""

    model_config = ConfigDict(strict=True, extra="allow")


class Part(Checked):
    """A part of a message. Only text: the models here read nothing else."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class Function(Checked):
    """What a tool call asks for; its arguments are JSON."""

    name: str
    arguments: Json[Object] | Object


class ToolCall(Checked):
    """A call in a message of the assistant's."""

    function: Function


class ChatMessage(Checked):
    """A message. Roles are checked by the model's chat template."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None


class CallItem(Checked):
    """A tool call among the items of a response."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Json[Object]


class ResultItem(Checked):
    """What the tool answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: str


class ReasoningItem(Checked):
    """What a model thought before."""

    type: Literal["reasoning"]
    content: list[Object] | None = None


def kind_of_item(item: Any) -> str:
    """The tag of the class above that an item of a response's input belongs to."""
    if not isinstance(item, dict) or "role" in item:
        return "message"
    return "text" if item.get("type") in ("input_text", "output_text") else str(item.get("type"))


Item = Annotated[
    Annotated[ChatMessage, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[Part, Tag("text")],
    Discriminator(kind_of_item),
]


class Body(Checked):
    """What all requests may say."""

    prompt_field: ClassVar[str]  # that holds what the model reads

    model: str | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None  # as torch takes them
    frequency_penalty: Annotated[float, Field(gt=-1, allow_inf_nan=False)] | None = None  # plus 1, divides logits
    stop: NotEmpty | Annotated[list[NotEmpty], Field(min_length=1)] | None = None
    logit_bias: dict[Annotated[str, Field(pattern="^[0-9]+$")], Finite] | None = None
    generation_config: Json[Object] | None = None
    chat_template_kwargs: Object | None = None
    tools: list[Object] | None = None


class ChatBody(Body):
    """POST /v1/chat/completions."""

    prompt_field = "messages"

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None


class CompletionBody(Body):
    """POST /v1/completions."""

    prompt_field = "prompt"

    prompt: NotEmpty
    max_tokens: Count | None = None
    suffix: str | None = None


class ResponseBody(Body):
    """POST /v1/responses."""

    prompt_field = "input"

    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None


BODIES = {"/v1/chat/completions": ChatBody, "/v1/completions": CompletionBody, "/v1/responses": ResponseBody}


class Refused(HTTPException):
    """A request that is refused."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(status, message)
        self.param, self.code = param, code


def check_body(content: bytes, kind: type[Body], model: str) -> None:
    """Raise `Refused` for a request that is not JSON, lacks something, or asks for another model than `model`."""
    try:
        body = json.loads(content)
        json.dumps(body, ensure_ascii=False).encode()  # no half of a character (lone surrogate)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The request is not JSON: {' '.join(str(error).split())}.") from None
    try:
        request = kind.model_validate(body)
    except ValidationError as error:
        raise as_refused(error, body) from None
    if request.model not in (None, model):
        message = f"This server has no model {request.model!r}: ask for {model!r}, or leave the name out."
        raise Refused(message, "model", "model_not_found", 404)
    try:
        GenerationConfig(**(request.generation_config or {}))
    except (ValueError, TypeError) as error:
        raise Refused(f"generation_config: {' '.join(str(error).split())}", "generation_config") from None


def as_refused(error: ValidationError, body: Any) -> Refused:
    """The first error; among alternatives (text or a list of parts) that of the closest one."""

    def path(detail: ErrorDetails) -> list[str]:
        """Keys and indices in the body, without pydantic's names of alternatives between them."""
        found, here = [], body
        for place, step in enumerate(detail["loc"], 1):
            is_missing = detail["type"] == "missing" and place == len(detail["loc"])
            if (isinstance(here, dict) and step in here) or (isinstance(here, list) and isinstance(step, int)):
                found.append(str(step))
                here = here[step]
            elif is_missing:
                found.append(str(step))
        return found

    first = max(error.errors(), key=lambda detail: (len(path(detail)), not detail["type"].endswith("_type")))
    param = ".".join(path(first))
    said = re.sub(r" or instance of \w+| found using kind_of_item\(\)", "", first["msg"])  # internal names
    return Refused(f"{param or 'the request'}: {said}.", param or None)


# Generation


class WithinContext(utils.GenerateManager):
    """Limits generation to the model's context. At this point each request has been tokenized."""

    def generate_streaming(
        self, model: PreTrainedModel, processor: Any, inputs: Any, gen_config: GenerationConfig, **options: Any
    ) -> Any:
        settle(gen_config, model, inputs["input_ids"].shape[-1])
        return super().generate_streaming(model, processor, inputs, gen_config, **options)

    async def generate_non_streaming(
        self, model: PreTrainedModel, processor: Any, inputs: Any, gen_config: GenerationConfig, **options: Any
    ) -> Any:
        settle(gen_config, model, inputs["input_ids"].shape[-1])
        return await super().generate_non_streaming(model, processor, inputs, gen_config, **options)


def settle(config: GenerationConfig, model: PreTrainedModel, prompt: int) -> None:
    """Limit `config.max_new_tokens` to the context that `prompt` tokens leave. Raises `Refused` if they leave none.

    Also turns biases into floats, which transformers requires.
    """
    context = context_length(model)
    room = context - prompt
    if room < 1:
        message = (
            f"This model's maximum context length is {context:,} tokens. However, your request has {prompt:,} tokens."
        )
        raise Refused(f"{message} Please shorten it.", code=CONTEXT_EXCEEDED)
    config.max_new_tokens = min(config.max_new_tokens or room, room)
    biases = {tokens: float(bias) for tokens, bias in (config.sequence_bias or {}).items()}
    if any(token >= model.config.get_text_config().vocab_size for tokens in biases for token in tokens):
        raise Refused("logit_bias: a token's id is beyond the vocabulary.", "logit_bias")
    config.sequence_bias = biases or None


# Errors


def error_response(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    """An error in OpenAI's format."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """A refusal by us or by transformers serve."""
    status = HTTPStatus.BAD_REQUEST if error.status_code == HTTPStatus.UNPROCESSABLE_ENTITY else error.status_code
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    if code == CONTEXT_EXCEEDED:
        param = BODIES[request.url.path].prompt_field
    return error_response(status, str(error.detail), param, code)


async def malformed(_: Request, error: Exception) -> JSONResponse:
    """A request that FastAPI cannot read."""
    first = error.errors()[0]
    return error_response(HTTPStatus.BAD_REQUEST, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")


async def refused_by_template(request: Request, error: Exception) -> JSONResponse:
    """A conversation that the chat template rejects, as for an unknown role or a result without a call."""
    kind = BODIES.get(request.url.path)
    message = f"The model's chat template refuses this: {error}."
    return error_response(HTTPStatus.BAD_REQUEST, message, kind.prompt_field if kind else None)


async def our_fault(_: Request, error: Exception) -> JSONResponse:
    """Any other error; its traceback is in the server's log."""
    return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, f"The server failed ({type(error).__name__}).")


# The server


def with_checks(app: FastAPI, model: str) -> FastAPI:
    """Add checks of requests and OpenAI's errors to `app`, which serves `model`."""
    app.add_exception_handler(StarletteHTTPException, http_error)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(TemplateError, refused_by_template)
    app.add_exception_handler(Exception, our_fault)

    @app.middleware("http")
    async def check(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method == "GET" and request.url.path == "/v1/models":  # transformers lists the Hub's cache instead
            served = {"id": model, "object": "model", "created": 0, "owned_by": ""}
            return JSONResponse({"object": "list", "data": [served]})
        kind = BODIES.get(request.url.path) if request.method == "POST" else None
        try:
            if kind is not None:
                check_body(await request.body(), kind, model)
        except Refused as error:
            return await http_error(request, error)
        return await answer(request)

    return app


def complete_transformers_serve(model: str) -> None:
    """Make the next `transformers serve` of this process do all this for `model`.

    Patches two private names of transformers; tests/recipes/test_serve.py fails when they change.
    """
    build = server.build_server
    server.build_server = lambda *args, **kwargs: with_checks(build(*args, **kwargs), model)
    utils.GenerateManager = WithinContext
