"""Conversations as tokens, and tokens as conversations: the chat format, safe from what users write.

A conversation is a list of messages in the OpenAI format. The Jinja template beside this file is the one place that
writes the format; it travels with every checkpoint, so `pipeline`, TRL and servers render exactly what we train on.
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

CALCULATOR = "calculator"  # name of the tool, and `expression` of its argument, in messages
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
# Key in tokenizer_config.json: in which words the format puts multiple choice (see `recipes.data.messages`).
MULTIPLE_CHOICE = "multiple_choice"
PLAIN, NANOCHAT = "plain", "nanochat"  # our words, and those of karpathy/nanochat
# How transformers and TRL read a reply back. It begins anew after a tool's result: with the turn's start as the only
# anchor, the text after a result would be parsed as the same call again.
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
    """Give `tokenizer` the chat format: the template, its inverse, and those of the nine special tokens it lacks.

    A tokenizer that is not ours (GPT-2's) grows: the embeddings of its model must be resized to `len(tokenizer)`.
    """
    known = tokenizer.get_vocab()
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    others = [token for token in special if token not in SPECIAL_TOKENS]  # GPT-2's `<|endoftext|>`
    tokenizer.add_tokens([token for token in SPECIAL_TOKENS if token not in known], special_tokens=True)
    tokenizer.eos_token = ASSISTANT_END
    tokenizer.pad_token = ASSISTANT_END
    tokenizer.padding_side = "left"  # prompts of a batch end together, where generation goes on
    tokenizer.chat_template = CHAT_TEMPLATE
    if others:  # no text may yield them either
        listed = json.dumps(others, ensure_ascii=False)
        tokenizer.chat_template = f"{{%- set other_specials = {listed} -%}}\n{CHAT_TEMPLATE}"
    tokenizer.response_template = RESPONSE_TEMPLATE
    tokenizer.init_kwargs[MULTIPLE_CHOICE] = PLAIN  # saved with the tokenizer, and there again when it is loaded


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` if the tokenizer cannot render a conversation."""
    if not tokenizer.chat_template:
        raise InputError(
            f"{tokenizer.name_or_path or 'the model'} has no chat template: it completes text but does not chat. "
            "Take a checkpoint of midtraining, SFT or GRPO."
        )


def has_chat_format(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether conversations are rendered in our format, and not in that of another family of models."""
    # By what it writes and not word by word: checkpoints outlive editions of the template.
    template, known = str(tokenizer.chat_template), tokenizer.get_vocab().keys()
    return PYTHON_START in template and OUTPUT_START in template and set(SPECIAL_TOKENS) <= known


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end what the model writes: the end of its turn, and the end of a call, whose result is not its own."""
    return tokenizer.convert_tokens_to_ids([ASSISTANT_END, PYTHON_END])


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of a whole conversation, and for each whether the assistant wrote it (1) or not (0)."""
    ids = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
    return ids, assistant_mask(tokenizer, ids)


def encode_conversations(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]
) -> list[list[int]]:
    """Token ids of many conversations, in one call of the tokenizer."""
    return tokenizer.apply_chat_template([list(each) for each in conversations], tokenize=True, return_dict=False)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant goes on: the start of its turn, or a tool's result."""
    return tokenizer.apply_chat_template(list(messages), tokenize=True, add_generation_prompt=True, return_dict=False)


def encode_tool_result(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a tool's result as it stands after a call. Rendered by the template, like everything else."""
    call = {"type": "function", "function": {"name": CALCULATOR, "arguments": {"expression": "0"}}}
    asked = [{"role": "user", "content": ""}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answered = [*asked, {"role": "tool", "name": CALCULATOR, "content": text}]
    return encode_prompt(tokenizer, answered)[len(encode_prompt(tokenizer, asked)) :]


def assistant_mask(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """1 for each token that the assistant wrote: its text, its calls and the end of its turn; else 0."""
    starts = tokenizer.convert_tokens_to_ids([ASSISTANT_START, OUTPUT_END])
    others = tokenizer.convert_tokens_to_ids([BOS, USER_START, OUTPUT_START])  # even where a turn was left unfinished
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
    """The messages that `ids` render; the inverse of `encode_conversation` (a system message stays in the user's).

    Reads what a model wrote as well: an unfinished message is closed, and what stands outside of any is dropped.
    """
    messages: list[Message] = []
    names = {tokenizer.convert_tokens_to_ids(token): token for token in SPECIAL_TOKENS}
    open_at, within = 0, None
    for index, token in enumerate([*ids, None]):
        if token is not None and token not in names:
            continue
        text = tokenizer.decode(list(ids[open_at:index]), skip_special_tokens=True)
        _add_piece(messages, within, names.get(token), text)
        within, open_at = names.get(token), index + 1
    return messages


def _add_piece(messages: list[Message], opened_by: str | None, closed_by: str | None, text: str) -> None:
    """Put the text between two special tokens where it belongs."""
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
    """Expression of the (first) call in an assistant message, or None."""
    calls = message.get("tool_calls")
    if not calls:
        return None
    arguments = calls[0]["function"]["arguments"]
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    return next(iter(arguments.values()), "")
