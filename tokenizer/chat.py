"""The chat format: conversations to tokens and back. Text of users is never encoded as special tokens.

A conversation is a list of messages in the OpenAI format. Only the Jinja template beside this file writes the format.
It is saved with every checkpoint, so `pipeline`, TRL and servers render exactly what we train on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from recipes.utils.errors import InputError
from tokenizer.special_tokens import (
    ASSISTANT_END,
    ASSISTANT_START,
    BOS,
    OUTPUT_END,
    OUTPUT_START,
    PYTHON_END,
    PYTHON_START,
    SPECIAL_TOKENS,
    USER_START,
)

Message = dict[str, Any]

CALCULATOR = "calculator"  # name of the tool in messages; its only argument is `expression`
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
# Key in tokenizer_config.json: the format's wording of multiple-choice questions (see `recipes.data.messages`).
MULTIPLE_CHOICE = "multiple_choice"
PLAIN, NANOCHAT = "plain", "nanochat"  # our wording, and karpathy/nanochat's
# How transformers and TRL parse a reply. Parsing restarts after a tool's result: if the start of the turn were the
# only anchor, the text after a result would be parsed as the same call again.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": [ASSISTANT_START, OUTPUT_END],
    "fields": {
        "tool_calls": {
            "open": PYTHON_START,
            "close": PYTHON_END,
            "repeats": True,
            "content": "text",
            "content_args": {"strip": False},
            "transform": {
                "type": "function",
                "function": {"name": CALCULATOR, "arguments": {"expression": "{content}"}},
            },
        },
        "content": {"close": ASSISTANT_END, "content": "text", "content_args": {"strip": False}},
    },
}


def add_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the chat format to `tokenizer`: the template, its inverse, and missing ones of the nine special tokens.

    Other tokenizers (GPT-2's) get new tokens: the embeddings of their model must be resized to `len(tokenizer)`.
    """
    known = tokenizer.get_vocab()
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    others = [token for token in special if token not in SPECIAL_TOKENS]  # GPT-2's `<|endoftext|>`
    tokenizer.add_tokens([token for token in SPECIAL_TOKENS if token not in known], special_tokens=True)
    tokenizer.eos_token = ASSISTANT_END
    tokenizer.pad_token = ASSISTANT_END
    tokenizer.padding_side = "left"  # so that the prompts of a batch end at the same position, where generation starts
    tokenizer.chat_template = CHAT_TEMPLATE
    if others:  # messages must not be encoded as these either
        listed = json.dumps(others, ensure_ascii=False)
        tokenizer.chat_template = f"{{%- set other_specials = {listed} -%}}\n{CHAT_TEMPLATE}"
    tokenizer.response_template = RESPONSE_TEMPLATE
    tokenizer.init_kwargs[MULTIPLE_CHOICE] = PLAIN  # saved in tokenizer_config.json


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` if the tokenizer cannot render a conversation."""
    if not tokenizer.chat_template:
        raise InputError(
            f"{tokenizer.name_or_path or 'the model'} has no chat template: it completes text but does not chat. "
            "Take a checkpoint of midtraining, SFT, DPO or GRPO."
        )


def has_chat_format(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template is ours, and not that of another family of models."""
    # By the tokens that it writes, not by comparing the text: checkpoints may have an earlier version of the template.
    template, known = str(tokenizer.chat_template), tokenizer.get_vocab().keys()
    return PYTHON_START in template and OUTPUT_START in template and set(SPECIAL_TOKENS) <= known


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids at which generation stops: the end of the turn, and the end of a call, whose result the tool writes."""
    return tokenizer.convert_tokens_to_ids([ASSISTANT_END, PYTHON_END])


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and a mask: 1 for tokens that the assistant writes, else 0."""
    ids = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
    return ids, assistant_mask(tokenizer, ids)


def encode_conversations(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]
) -> list[list[int]]:
    """Token ids of many conversations, in one call of the tokenizer (faster)."""
    return tokenizer.apply_chat_template([list(each) for each in conversations], tokenize=True, return_dict=False)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant writes: after the start of its turn or a tool's result."""
    return tokenizer.apply_chat_template(list(messages), tokenize=True, add_generation_prompt=True, return_dict=False)


def encode_tool_result(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a tool's result after a call, rendered by the template."""
    call = {"type": "function", "function": {"name": CALCULATOR, "arguments": {"expression": "0"}}}
    asked = [{"role": "user", "content": ""}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answered = [*asked, {"role": "tool", "name": CALCULATOR, "content": text}]
    return encode_prompt(tokenizer, answered)[len(encode_prompt(tokenizer, asked)) :]


def assistant_mask(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """1 for tokens that the assistant writes (its text, its calls, the end of its turn), else 0.

    The loss is computed on these tokens only.
    """
    starts = tokenizer.convert_tokens_to_ids([ASSISTANT_START, OUTPUT_END])
    others = tokenizer.convert_tokens_to_ids([BOS, USER_START, OUTPUT_START])  # also end an unfinished turn
    end = tokenizer.convert_tokens_to_ids(ASSISTANT_END)
    mask, writing = [], False
    for token in ids:
        if token in starts:
            mask.append(0)
            writing = True
        else:
            writing = writing and token not in others
            mask.append(int(writing))
            writing = writing and token != end
    return mask


def parse_conversation(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[Message]:
    """Parse token ids into messages: the inverse of `encode_conversation`, except that a system message stays part of
    the user's.

    Also parses what a model wrote: unfinished messages are closed, and text outside of messages is dropped.
    """
    messages: list[Message] = []
    names = {tokenizer.convert_tokens_to_ids(token): token for token in SPECIAL_TOKENS}
    start, opened_by = 0, None
    for index, token in enumerate([*ids, None]):
        if token is not None and token not in names:
            continue
        text = tokenizer.decode(list(ids[start:index]), skip_special_tokens=True)
        _add_piece(messages, opened_by, names.get(token), text)
        opened_by, start = names.get(token), index + 1
    return messages


def _add_piece(messages: list[Message], opened_by: str | None, closed_by: str | None, text: str) -> None:
    """Add the text between two special tokens to the messages."""
    if opened_by == USER_START:
        messages.append({"role": "user", "content": text})
    elif opened_by == OUTPUT_START:
        messages.append({"role": "tool", "name": CALCULATOR, "content": text})
    elif opened_by == PYTHON_START and messages and messages[-1]["role"] == "assistant":
        call = {"type": "function", "function": {"name": CALCULATOR, "arguments": {"expression": text}}}
        messages[-1].setdefault("tool_calls", []).append(call)
    elif opened_by in (ASSISTANT_START, OUTPUT_END) and (text or closed_by in (ASSISTANT_END, PYTHON_START)):
        messages.append({"role": "assistant", "content": text})


def call_expression(message: Message) -> str | None:
    """Expression of the first call in an assistant message; None without a call."""
    calls = message.get("tool_calls")
    if not calls:
        return None
    arguments = calls[0]["function"]["arguments"]
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    return next(iter(arguments.values()), "")
