"""A request to the server is checked before anything is done: what is wrong, and where, in OpenAI's words."""

import json

import pytest
from transformers.utils.import_utils import is_serve_available

if not is_serve_available():
    pytest.skip("needs the extra `serve`", allow_module_level=True)

from recipes.inference.openai_api import ChatBody, CompletionBody, Refused, ResponseBody, check_body

HELLO = {"messages": [{"role": "user", "content": "Hello."}]}
CALL = {"function": {"name": "calculator", "arguments": '{"expression": "12*4"}'}}


def refusal(content, kind=ChatBody) -> tuple[str, str | None]:
    """What is said, and the parameter that is named."""
    with pytest.raises(Refused) as error:
        check_body(content if isinstance(content, bytes) else json.dumps(content).encode(), kind, "mine")
    assert error.value.status_code in (400, 404) and "\n" not in error.value.detail
    assert not any(name in error.value.detail for name in ("ChatBody", "ChatMessage", "Item"))
    return error.value.detail, error.value.param


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("Hello.", "messages"),
        (["Hello."], "messages.0"),
        ([{"content": "x"}], "messages.0.role"),
        ([{"role": 5, "content": "x"}], "messages.0.role"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        ([{"role": "user", "content": ["x"]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages.0.content.0.type"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages.0.tool_calls.0.function"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
    ids=str,
)
def test_messages_that_are_none(messages, param):
    assert refusal({"messages": messages})[1] == param


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "temperature": [-1, "hot", float("nan"), float("inf"), True, []],
        "top_p": [0, -0.1, 1.1, "1"],
        "seed": [2**70, -(2**70), 1.5, "1"],
        "max_tokens": [0, -5, 1.5, "5"],
        "max_completion_tokens": [0],
        "frequency_penalty": [-1, "x"],
        "stop": ["", [], [""], 5],
        "logit_bias": [[], {"x": 1}, {"5": "x"}],
        "stream": ["yes", 1],
        "model": [5],
        "tools": ["x", [5]],
        "generation_config": ["{", "[1]", '{"max_new_tokens": -5}', {"max_new_tokens": 5}],
        "chat_template_kwargs": [5],
    }.items(),
)
def test_numbers_and_texts_that_are_out_of_range_or_of_the_wrong_type(name, values):
    for value in values:
        said, param = refusal(HELLO | {name: value})
        assert param.split(".")[0] == name and name in said, value


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"x"', b"[" * 100_000, b'{"messages": [{"role": "\\ud800"}]}'],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_object_of_json(content):
    assert "the request" in refusal(content)[0].lower()


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (CompletionBody, {}, "prompt"),
        (CompletionBody, {"prompt": ""}, "prompt"),
        (CompletionBody, {"prompt": ["x"]}, "prompt"),
        (ResponseBody, {}, "input"),
        (ResponseBody, {"input": 5}, "input"),
        (ResponseBody, {"input": []}, "input"),
        (ResponseBody, {"input": ["x"]}, "input.0"),
        (ResponseBody, {"input": [{"type": "nothing"}]}, "input.0"),
        (ResponseBody, {"input": [{"role": 5}]}, "input.0.role"),
        (ResponseBody, {"input": [{"role": "user", "content": 5}]}, "input.0.content"),
        (ResponseBody, {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input.0.call_id"),
        (ResponseBody, {"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
    ],
    ids=str,
)
def test_the_other_endpoints(kind, body, param):
    assert refusal(body, kind)[1] == param


def test_another_model_is_not_found():
    assert refusal(HELLO | {"model": "gpt-4"}) == (
        "This server has no model 'gpt-4': ask for 'mine', or leave the name out.",
        "model",
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatBody, HELLO),
        (ChatBody, HELLO | {"model": "mine", "temperature": 0, "top_p": 1, "seed": -1, "stop": "x", "stream": True}),
        (ChatBody, HELLO | {"temperature": None, "max_tokens": None, "logit_bias": {"5": 1}, "stop": ["a", "b"]}),
        (ChatBody, {"messages": [*HELLO["messages"], {"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
        (ChatBody, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]}),
        (CompletionBody, {"prompt": "Once", "max_tokens": 5}),
        (ResponseBody, {"input": "Hello.", "stream": False}),
        (ResponseBody, {"input": [{"type": "input_text", "text": "Hello."}]}),
        (ResponseBody, {"input": [{"type": "function_call_output", "call_id": "1", "output": "48"}]}),
    ],
    ids=str,
)
def test_what_is_right_passes(kind, body):
    check_body(json.dumps(body).encode(), kind, "mine")
