import copy
import json
from itertools import chain

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PretrainedConfig

from evals.tokenizer.samples import DOMAINS
from recipes.data.messages import (
    CONVERSATIONS,
    assistant,
    calculator_call,
    check_messages,
    choice_wording,
    fit_conversation,
    render_multiple_choice,
    user,
)
from recipes.utils.errors import InputError
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_conversation

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CALL = st.builds(calculator_call, TEXT, TEXT, TEXT)
EXCHANGE = st.builds(
    lambda asked, calls, answer: [user(asked), *chain(*calls), assistant(answer)],
    TEXT,
    st.lists(CALL, max_size=2),
    TEXT,
)
CONVERSATION = st.builds(
    lambda system, exchanges: [*system, *chain(*exchanges)],
    st.lists(st.builds(lambda text: {"role": "system", "content": text}, TEXT), max_size=1),
    st.lists(EXCHANGE, min_size=1, max_size=4),
)
ASKED = [user("2 + 2?"), *calculator_call("It is ", "2+2", "4"), assistant("4.")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOMAINS.values(), vocab_size=300)


def changed(number, **keys):
    """The sample conversation with keys of one message (from 1) replaced, or left out where None."""
    messages = copy.deepcopy(ASKED)
    message = messages[number - 1] | keys
    messages[number - 1] = {key: value for key, value in message.items() if value is not None}
    return messages


def called(**function):
    """The sample conversation with a call of `function`."""
    return changed(2, tool_calls=[{"type": "function", "function": function}])


# Sound conversations


@given(CONVERSATION)
@settings(max_examples=60, deadline=None)
def test_a_sound_conversation_passes_unchanged_and_comes_back_from_a_dataset_as_it_went_in(messages):
    assert check_messages(messages) == messages
    dataset = datasets.Dataset.from_list([{"messages": messages}], features=CONVERSATIONS)
    assert dataset[0]["messages"] == messages
    assert dataset.map(lambda row: row)[0]["messages"] == messages


@given(CONVERSATION, st.data())
@settings(max_examples=60, deadline=None)
def test_a_sound_conversation_without_any_one_of_its_messages_is_unsound(messages, data):
    left_out = data.draw(st.integers(messages[0]["role"] == "system", len(messages) - 1))
    with pytest.raises(InputError):
        check_messages(messages[:left_out] + messages[left_out + 1 :])


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x))
)
@settings(max_examples=60, deadline=None)
def test_what_is_no_conversation_gives_one_line(value):
    for messages in (value, [value], [user("a"), value], [user("a"), {"role": "assistant", "tool_calls": value}]):
        with pytest.raises(InputError) as error:
            check_messages(messages)
        assert "\n" not in str(error.value)


def test_arguments_in_json_text_become_a_dict():
    assert check_messages(called(name="calculator", arguments='{"expression": "2+2"}')) == ASKED


def test_openai_messages_lose_only_what_the_chat_format_does_not_know():
    messages = copy.deepcopy(ASKED)
    messages[1]["tool_calls"][0]["id"] = messages[2]["tool_call_id"] = "call_1"
    del messages[2]["name"]  # OpenAI's tool messages have none
    messages[3] |= {"refusal": None, "tool_calls": None}
    assert check_messages(messages) == ASKED
    assert check_messages(changed(2, content=None))[1]["content"] == "", "as OpenAI writes a mere call"


def test_several_calls_are_answered_in_their_order():
    (first, one), (_, two) = calculator_call("", "1", "1"), calculator_call("", "2", "2")
    double = first | {"tool_calls": [*first["tool_calls"], *calculator_call("", "2", "2")[0]["tool_calls"]]}
    messages = [user("?"), double, one, two, assistant("1 and 2")]
    assert check_messages(messages) == messages
    with pytest.raises(InputError, match="message 4 has role 'assistant' where 'tool' is expected"):
        check_messages([user("?"), double, one, assistant("1 and 2")])


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        (None, "a list of messages, and this is null"),
        ([], "a list of messages, and this is an empty list"),
        ({"role": "user"}, "a list of messages, and this is an object"),
        (["hello"], "message 1 is text, not an object with role and content"),
        ([user("a")], "message 1 is the last and has role 'user' where 'assistant' is expected"),
        ([{"role": "system", "content": "a"}], "message 1 is the last and has role 'system'"),
        ([assistant("a")], "message 1 has role 'assistant' where 'system' or 'user' is expected"),
        ([user("a"), user("b")], "message 2 has role 'user' where 'assistant' is expected"),
        ([user("a"), assistant("b"), assistant("c")], "message 3 has role 'assistant' where 'user' is expected"),
        ([user("a"), assistant("b"), {"role": "system", "content": "c"}], "message 3 has role 'system' where 'user'"),
        ([user("a"), {"content": "b"}], "message 2 has no role where 'assistant' is expected"),
        ([user("a"), {"role": ["assistant"], "content": "b"}], "message 2 has role ['assistant'] where"),
        ([user("a"), {"role": "tool", "content": "b"}], "message 2 has role 'tool' where 'assistant' is expected"),
        ([user("a"), {"role": "assistant"}], "message 2 has null as its content, not text"),
        ([user(["a"]), assistant("b")], "message 1 has a list as its content, not text"),
        ([user("a"), assistant(5)], "message 2 has a number as its content, not text"),
        ([user("\ud800"), assistant("b")], "message 1 holds a lone surrogate"),
        (ASKED[:2], "a call of 'calculator' is not answered by a tool message"),
        (ASKED[:3], "message 3 is the last and has role 'tool'"),
        ([*ASKED[:2], user("and?")], "message 3 has role 'user' where 'tool' is expected"),
        (changed(1, tool_calls=ASKED[1]["tool_calls"]), "message 1 has role 'user' and tool_calls"),
        (changed(2, tool_calls="2+2"), "message 2 has text as its tool_calls, not a list"),
        (changed(2, tool_calls=["2+2"]), "message 2 has a tool call that is not"),
        (changed(2, tool_calls=[{"name": "calculator"}]), "message 2 has a tool call that is not"),
        (called(name="", arguments={}), "message 2 has a tool call that is not"),
        (called(name="calculator"), "message 2 calls 'calculator' with null as arguments, not an object"),
        (called(name="calculator", arguments="2+2"), "message 2 calls 'calculator' with arguments that are not JSON"),
        (called(name="calculator", arguments='"2+2"'), "message 2 calls 'calculator' with text as arguments"),
        (called(name="calculator", arguments={"n": 2**63}), "message 2 calls a tool with the number 922337203685477"),
        (called(name="calculator", arguments={"n": float("nan")}), "message 2 calls a tool with the number nan"),
        (called(name="calculator", arguments={"n": ["\ud800"]}), "message 2 holds a lone surrogate"),
        (called(name="calculator", arguments=json.loads('{"a":' * 30 + "1" + "}" * 30)), "nested more than 20 deep"),
        (changed(3, name="search"), "message 3 is a result of 'search' where one of 'calculator' is expected"),
        (changed(3, content=4), "message 3 has a number as its content, not text"),
    ],
)
def test_an_unsound_conversation_is_told_by_its_first_bad_message(messages, complaint):
    with pytest.raises(InputError) as error:
        check_messages(messages)
    assert complaint in str(error.value)


def test_an_answer_to_another_call_is_told():
    messages = copy.deepcopy(ASKED)
    messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"] = "call_1", "call_2"
    with pytest.raises(InputError, match="message 3 answers the call 'call_2' where 'call_1' is expected"):
        check_messages(messages)


def test_multiple_choice_puts_the_letter_after_its_choice():
    rendered = render_multiple_choice("Which is red?", ["grass", "blood"])
    assert rendered == "Which is red?\n- grass=A\n- blood=B\nRespond only with the letter."


@pytest.mark.parametrize(
    ("kwargs", "model_type", "wording"),
    [
        ({}, "gpt2", "plain"),
        ({}, "nanochat", "nanochat"),  # transformers' own class, whose models come from there
        ({"multiple_choice": "plain"}, "nanochat", "plain"),
        ({"multiple_choice": "nanochat"}, "nanochat_gpt", "nanochat"),
    ],
)
def test_multiple_choice_is_worded_as_the_chat_format_says(tokenizer, tmp_path, kwargs, model_type, wording):
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config.pop("multiple_choice") == "plain", "written by our training"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | kwargs))
    loaded, config = AutoTokenizer.from_pretrained(tmp_path), PretrainedConfig()
    config.model_type = model_type
    assert choice_wording(loaded, config) == wording
    loaded.save_pretrained(tmp_path / "again")
    assert choice_wording(AutoTokenizer.from_pretrained(tmp_path / "again"), config) == wording


@pytest.mark.parametrize("words", ["brief", 5, ["plain"], None])
def test_words_that_nobody_knows_are_told(tokenizer, monkeypatch, words):
    monkeypatch.setitem(tokenizer.init_kwargs, "multiple_choice", words)
    with pytest.raises(
        InputError, match="multiple_choice in tokenizer_config.json is .*: choose one of plain, nanochat"
    ):
        choice_wording(tokenizer, PretrainedConfig())


# Fitting to the context


@given(messages=CONVERSATION, max_tokens=st.integers(1, 150))
@settings(max_examples=80, deadline=None)
def test_fitting_keeps_as_many_whole_exchanges_from_the_start_as_fit(tokenizer, messages, max_tokens):
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"]
    prefixes = [messages[:end] for end in (*starts[1:], len(messages))]
    fitting = [each for each in prefixes if len(encode_conversation(tokenizer, each)[0]) <= max_tokens]
    fitted = fit_conversation(tokenizer, messages, max_tokens)
    assert fitted == (fitting[-1] if fitting else None)
    if fitted is not None:
        assert check_messages(fitted) == fitted
        assert sum(encode_conversation(tokenizer, fitted)[1]) > 0, "there is something to train on"


def test_a_call_its_result_and_the_continuation_stay_together(tokenizer):
    first = [user("Hello"), assistant("Hello to you")]
    messages = [*first, *ASKED]
    whole = len(encode_conversation(tokenizer, messages)[0])
    assert fit_conversation(tokenizer, messages, whole) == messages
    assert fit_conversation(tokenizer, messages, whole - 1) == first, "not the call without what follows"
