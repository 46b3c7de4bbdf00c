"""The chat format: what is said comes back, and the mask covers what the assistant writes and nothing else."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from trl.chat_template_utils import (
    is_chat_template_prefix_preserving,
    is_chat_template_stop_token_trained,
    parse_response,
    supports_tool_calling,
)

from recipes.utils.errors import InputError
from tests.tokenizer.conversations import TEXTS, assistant, call, special_ids, tool, turns, user, whole_conversations
from tokenizer.bpe import save_tokenizer
from tokenizer.chat import (
    CHAT_TEMPLATE,
    RESPONSE_TEMPLATE,
    add_chat_template,
    assistant_mask,
    call_expression,
    check_chat_template,
    encode_conversation,
    encode_conversations,
    encode_prompt,
    encode_tool_result,
    has_chat_format,
    parse_conversation,
    stop_token_ids,
)
from tokenizer.special_tokens import SPECIAL_TOKENS

KINDS = pytest.mark.parametrize("kind", ["tokenizer", "reloaded", "gpt2_chat", "gpt2_chat_reloaded"])
TWO_KINDS = pytest.mark.parametrize("kind", ["tokenizer", "gpt2_chat_reloaded"])


def rendered(tokenizer, messages) -> str:
    return tokenizer.decode(encode_conversation(tokenizer, messages)[0])


def folded(messages: list[dict]) -> list[dict]:
    """The same conversation as the model sees it: a system message stands in front of the first user message."""
    if messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    return [user(f"{system['content']}\n\n{first['content']}"), *rest]


# What a saved tokenizer carries


def test_a_saved_tokenizer_carries_template_and_response_template(reloaded, tmp_path):
    save_tokenizer(reloaded, tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    assert reloaded.chat_template == CHAT_TEMPLATE
    assert reloaded.response_template == RESPONSE_TEMPLATE


@KINDS
def test_trl_finds_the_template_fit_for_tools_and_training(request, kind):
    tokenizer = request.getfixturevalue(kind)
    assert has_chat_format(tokenizer)
    assert supports_tool_calling(tokenizer)
    assert is_chat_template_prefix_preserving(tokenizer)
    assert is_chat_template_stop_token_trained(tokenizer)


def test_a_tokenizer_without_the_format_is_told_apart(gpt2_like):
    assert not has_chat_format(gpt2_like)
    with pytest.raises(InputError, match="no chat template: it completes text but does not chat"):
        check_chat_template(gpt2_like)


def test_a_gpt2_like_tokenizer_grows_by_the_nine_and_keeps_its_other_tokens(gpt2_like, gpt2_chat_reloaded):
    before = len(gpt2_like)
    assert gpt2_chat_reloaded.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(before, before + 9))
    assert gpt2_chat_reloaded("Hello <b>")["input_ids"] == gpt2_like("Hello <b>")["input_ids"]
    assert gpt2_chat_reloaded.bos_token == "<|endoftext|>" and gpt2_chat_reloaded.eos_token == "<|assistant_end|>"


def test_adding_the_format_twice_changes_nothing(gpt2_chat):
    again = deepcopy(gpt2_chat)
    add_chat_template(again)
    assert again.get_vocab() == gpt2_chat.get_vocab() and again.chat_template == gpt2_chat.chat_template


# The format


def test_the_format_is_as_designed(tokenizer):
    messages = [
        {"role": "system", "content": "Be short."},
        user("12*4?"),
        assistant("It is ", "12*4"),
        tool("48"),
        assistant("48."),
        user("Thanks"),
        assistant("Bye"),
    ]
    assert rendered(tokenizer, messages) == (
        "<|bos|><|user_start|>Be short.\n\n12*4?<|user_end|><|assistant_start|>It is "
        "<|python_start|>12*4<|python_end|><|output_start|>48<|output_end|>48.<|assistant_end|>"
        "<|user_start|>Thanks<|user_end|><|assistant_start|>Bye<|assistant_end|>"
    )


@pytest.mark.parametrize(
    ("called", "written"),
    [
        (call("calculator", expression="1+2"), "1+2"),
        (call("python", code="1+2"), "1+2"),
        (call("calculator", expression=12), "12"),
        (call("calculator"), "calculator()"),
        (call("calculator", a="1", b="2"), "calculator(a='1', b='2')"),
        (call("weather", city="Paris", days=3, exact=True), "weather(city='Paris', days=3, exact=True)"),
        ({"name": "weather", "arguments": {"city": "Paris"}}, "weather(city='Paris')"),
    ],
)
def test_the_calculator_is_called_by_the_bare_expression_and_others_by_name(tokenizer, called, written):
    calling = {"role": "assistant", "content": "", "tool_calls": [called]}
    assert rendered(tokenizer, [user("?"), calling]).endswith(f"<|python_start|>{written}<|python_end|>")


@pytest.mark.parametrize("content", [None, [], [{"type": "text", "text": ""}]])
def test_a_message_that_only_calls_needs_no_content(tokenizer, content):
    calling = assistant("", "1+1")
    expected = encode_conversation(tokenizer, [user("?"), calling])
    assert encode_conversation(tokenizer, [user("?"), calling | {"content": content}]) == expected
    del calling["content"]
    assert encode_conversation(tokenizer, [user("?"), calling]) == expected


def test_text_parts_are_joined(tokenizer):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert encode_conversation(tokenizer, [user(parts)]) == encode_conversation(tokenizer, [user("one two")])


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([user("?"), {"role": "critic", "content": "!"}], "unknown role critic"),
        ([{"content": "!"}], "unknown role"),
        ([user("?"), {"role": "system", "content": "!"}, user("?")], "a system message comes first"),
        ([{"role": "system", "content": "!"}], "before a user message"),
        ([{"role": "system", "content": "!"}, assistant("a")], "before a user message"),
        ([user("?"), tool("48")], "a tool message answers a call of the assistant, and there is none"),
        ([user("?"), assistant("a"), tool("48")], "answers a call of the assistant, and there is none"),
        ([user("?"), assistant("a", "1"), user("?"), tool("1")], "answers a call of the assistant, and there is none"),
        ([user("?"), assistant("a", "1"), assistant("b")], "a tool call that no tool message answers"),
        ([user(None)], "a message of role user has no content"),
        ([{"role": "user"}], "a message of role user has no content"),
        ([user("?"), {"role": "assistant"}], "a message of role assistant has no content"),
        ([user("?"), assistant("", "1"), tool(None)], "a message of role tool has no content"),
        ([user(3)], "content must be a string or a list of text parts"),
        ([user({"text": "?"})], "content must be a string or a list of text parts"),
        ([user([{"type": "image", "url": "cat.png"}])], "not a part of type image"),
        ([user([{"type": "text", "text": None}])], "only text can be read"),
        ([user(["?"])], "only text can be read"),
        (
            [user("?"), assistant("") | {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}],
            "arguments of a tool call must be a dict, not text",
        ),
        ([user("?"), assistant("") | {"tool_calls": [{"function": {"name": "f"}}]}], "must be a dict"),
        ([user("?"), assistant("") | {"tool_calls": [{"function": {"arguments": {}}}]}], "must name its function"),
        ([user("?"), assistant("") | {"tool_calls": ["12*4"]}], "must name its function"),
    ],
)
def test_a_malformed_conversation_is_named(tokenizer, messages, named):
    with pytest.raises(TemplateError, match=named):
        encode_conversation(tokenizer, messages)


@pytest.mark.parametrize(
    "text",
    [
        "xs <| f |> g",
        "<|x|>",
        "<|bos>",
        "<bos|>",
        "<|BOS|>",
        "<b>bold</b> &lt; 'it''s' {{ x }} {% y %}",
        "</s> [INST]",
    ],
)
def test_texts_without_special_strings_are_rendered_exactly(tokenizer, text):
    assert rendered(tokenizer, [user(text)]) == f"<|bos|><|user_start|>{text}<|user_end|>"


# Tokens back to messages


@TWO_KINDS
@settings(max_examples=60, deadline=None)
@given(messages=whole_conversations())
def test_conversations_come_back_exactly(request, kind, messages):
    tokenizer = request.getfixturevalue(kind)
    ids, _ = encode_conversation(tokenizer, messages)
    assert parse_conversation(tokenizer, ids) == folded(messages)


def test_a_call_of_another_tool_comes_back_as_it_is_written(tokenizer):
    messages = [user("?"), {"role": "assistant", "content": "", "tool_calls": [call("weather", city="Paris")]}]
    ids, _ = encode_conversation(tokenizer, messages)
    parsed = parse_conversation(tokenizer, ids)
    assert call_expression(parsed[1]) == "weather(city='Paris')"
    assert encode_conversation(tokenizer, parsed)[0] == ids


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_a_model_writes_can_be_parsed_and_its_calls_are_its_own(tokenizer, data):
    vocabulary = st.sampled_from(sorted(special_ids(tokenizer))) | st.integers(0, len(tokenizer) - 1)
    ids = data.draw(st.lists(vocabulary, max_size=30))
    for message in parse_conversation(tokenizer, ids):
        assert set(message) <= {"role", "content", "name", "tool_calls"}
        assert "tool_calls" not in message or message["role"] == "assistant"


def replies(tokenizer, messages: list[dict]) -> list[tuple[list[int], list[int], dict]]:
    """Each message of the assistant: the prompt before it, its own tokens, and itself."""
    found = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = encode_prompt(tokenizer, messages[:index])
            whole, _ = encode_conversation(tokenizer, messages[: index + 1])
            assert whole[: len(prompt)] == prompt
            found.append((prompt, whole[len(prompt) :], message))
    return found


@TWO_KINDS
@settings(max_examples=40, deadline=None)
@given(messages=whole_conversations(), data=st.data())
def test_transformers_and_trl_read_a_reply_as_we_do_even_cut_short(request, kind, messages, data):
    tokenizer = request.getfixturevalue(kind)
    prompt, reply, message = data.draw(st.sampled_from(replies(tokenizer, messages)))
    assert parse_response(tokenizer, reply, prefix=prompt) == message
    assert {"content": "", **tokenizer.parse_response(reply, prefix=prompt)} == message

    cut = reply[: data.draw(st.integers(1, len(reply)))]
    ours = parse_conversation(tokenizer, [*prompt, *cut])[-1]
    assert parse_response(tokenizer, cut, prefix=prompt) == ours


def test_text_after_a_result_is_not_the_call_again(tokenizer):
    prompt = encode_prompt(tokenizer, [user("?"), assistant("It is ", "12*4"), tool("48")])
    reply = tokenizer("48.<|assistant_end|>", add_special_tokens=False)["input_ids"]
    assert parse_response(tokenizer, reply, prefix=prompt) == assistant("48.")


# The mask: what the assistant writes, all of it and nothing else


@KINDS
@settings(max_examples=40, deadline=None)
@given(messages=whole_conversations())
def test_our_mask_is_that_of_the_generation_markers(request, kind, messages):
    tokenizer = request.getfixturevalue(kind)
    ids, mask = encode_conversation(tokenizer, messages)
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert theirs["input_ids"] == ids
    assert theirs["assistant_masks"] == mask


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(messages=whole_conversations())
def test_the_mask_covers_text_calls_and_the_end_and_never_results(tokenizer, messages):
    ids, mask = encode_conversation(tokenizer, messages)
    expected = ""
    for message in messages:
        if message["role"] == "assistant":
            calls = [each["function"]["arguments"]["expression"] for each in message.get("tool_calls", [])]
            written = "".join(f"<|python_start|>{each}<|python_end|>" for each in calls) or "<|assistant_end|>"
            expected += message["content"] + written
    assert tokenizer.decode([id for id, written in zip(ids, mask, strict=True) if written]) == expected


@pytest.mark.parametrize("result", [[], [tool("2")]])
def test_a_turn_left_unfinished_ends_where_the_user_speaks(tokenizer, result):
    messages = [user("?"), assistant("", "1+1"), *result, user("never mind"), assistant("Fine.")]
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = encode_conversation(tokenizer, messages)
    assert mask == theirs["assistant_masks"]
    written = tokenizer.decode([id for id, own in zip(ids, mask, strict=True) if own])
    assert written == "<|python_start|>1+1<|python_end|>Fine.<|assistant_end|>"


def test_a_row_of_packed_conversations_has_the_masks_of_its_parts(tokenizer):
    ids, mask = encode_conversation(tokenizer, [user("?"), assistant("", "1+1")])
    document = tokenizer("a plain document")["input_ids"]
    assert assistant_mask(tokenizer, ids + document + ids) == mask + [0] * len(document) + mask


# Prompts


@TWO_KINDS
@settings(max_examples=40, deadline=None)
@given(messages=whole_conversations())
def test_every_prompt_is_a_prefix_of_the_conversation(request, kind, messages):
    tokenizer = request.getfixturevalue(kind)
    whole, mask = encode_conversation(tokenizer, messages)
    start, output_end = tokenizer.convert_tokens_to_ids(["<|assistant_start|>", "<|output_end|>"])
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = encode_prompt(tokenizer, messages[:index])
            assert whole[: len(prompt)] == prompt
            assert mask[len(prompt)] == 1
            assert prompt[-1] == (output_end if messages[index - 1]["role"] == "tool" else start)


@TWO_KINDS
@settings(max_examples=40, deadline=None)
@given(asked=turns(), result=TEXTS)
def test_a_tool_result_is_what_stands_between_a_call_and_what_follows(request, kind, asked, result):
    tokenizer = request.getfixturevalue(kind)
    calling = [asked[0], assistant("", "1+1")]
    expected = encode_prompt(tokenizer, [*calling, tool(result)])
    assert encode_prompt(tokenizer, calling) + encode_tool_result(tokenizer, result) == expected


def test_generation_stops_at_the_end_of_a_turn_and_of_a_call(tokenizer):
    calling, _ = encode_conversation(tokenizer, [user("?"), assistant("", "1+1")])
    answered, _ = encode_conversation(tokenizer, [user("?"), assistant("2")])
    assert stop_token_ids(tokenizer) == [answered[-1], calling[-1]]


@settings(max_examples=20, deadline=None)
@given(conversations=st.lists(whole_conversations(), min_size=1, max_size=4))
def test_many_conversations_are_encoded_as_one_by_one(tokenizer, conversations):
    expected = [encode_conversation(tokenizer, messages)[0] for messages in conversations]
    assert encode_conversations(tokenizer, conversations) == expected
