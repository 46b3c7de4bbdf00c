"""Generate replies of a chat model, with tool calls: in batches for evaluation, or streamed for people.

One loop serves both. The model generates until its turn ends or it calls the calculator; the result of a call is
appended as tokens, and generation continues. Generated tokens are never decoded and tokenized again, so the model sees
exactly what it wrote.

Models with another chat template work too, but their tool calls are not run.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerFast, StoppingCriteria, StoppingCriteriaList

from recipes.inference.streaming import BROKEN, Call, Event, EventStreamer, Reply, Result, Text
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError
from recipes.utils.model_facts import context_length
from tokenizer.chat import (
    CALCULATOR,
    Message,
    check_chat_template,
    encode_prompt,
    encode_tool_result,
    has_chat_format,
    parse_conversation,
)
from tokenizer.encode import check_utf8, encode_documents
from tokenizer.special_tokens import ASSISTANT_END, PYTHON_END, PYTHON_START, SPECIAL_TOKENS

MAX_CALLS = 8  # tool calls in one reply; a reply ends at the next call after these

__all__ = [
    "TOOLS",
    "Call",
    "Event",
    "Reply",
    "Result",
    "Sampling",
    "Text",
    "context_length",
    "generate_replies",
    "render_prompt",
    "stream_completion",
    "stream_reply",
]

Tools = Mapping[str, Callable[..., str]]
LOWEST_TEMPERATURE = 1e-3  # below it sampling is greedy in effect, and dividing the logits may overflow
TOOLS: Tools = {CALCULATOR: calculator}


@dataclass(frozen=True)
class Sampling:
    """Sampling options; greedy by default. Raises `InputError` for invalid values.

    `max_new_tokens` bounds the whole reply, including calls and their results. Equal seeds give equal replies.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}.")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 (greedy) or more, not {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k must be at least 1, not {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if self.temperature == 0 and (self.top_k is not None or self.top_p != 1):
            raise InputError("top_k and top_p choose what is sampled: give a temperature above 0 with them.")

    def options(self) -> dict[str, Any]:
        """The options as arguments of `generate`."""
        if self.temperature < LOWEST_TEMPERATURE:
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": float(self.temperature),  # transformers refuses an int, as JSON gives for 2
            "top_k": self.top_k or 0,  # 0 turns off the default of 50
            "top_p": float(self.top_p),
        }


def generate_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    sampling: Sampling,
    tools: Tools = TOOLS,
    batch_size: int = 64,
) -> list[list[Message]]:
    """Generate the reply to each conversation: messages with calls, their results, and a last message without a call.

    Greedy replies do not depend on the batch. A prompt that fills the model's context gets an empty reply, so that it
    does not end an evaluation. Raises `InputError` for a model without a chat template.
    """
    check_chat_template(tokenizer)
    chat_format = ChatFormat(model, tokenizer)
    rows = [chat_format.start(messages, sampling.max_new_tokens) for messages in conversations]
    _complete(model, chat_format, rows, sampling, tools, batch_size)
    return [chat_format.messages(row) for row in rows]


def stream_reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    sampling: Sampling,
    tools: Tools = TOOLS,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Stream the reply to one conversation as events. The last event is the `Reply`, also after `stop` was set.

    Raises `InputError` at once for a model without a chat template, an empty prompt, or one that fills the context.
    """
    check_chat_template(tokenizer)
    if not messages or not messages[-1]["content"].strip():
        raise InputError("the prompt is empty: write something.")
    check_utf8([message["content"] for message in messages])
    chat_format = ChatFormat(model, tokenizer)
    row = chat_format.start(messages, sampling.max_new_tokens)
    chat_format.check_room(row)
    return _stream(model, chat_format, row, sampling, tools, stop or threading.Event())


def stream_completion(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    sampling: Sampling,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Stream a base model's continuation of `text` as `Text` events. The last event is the `Reply` with all of it.

    Works with any model: no tools are called, and every special token ends the text. Raises `InputError` at once for a
    text that fills the context.
    """
    text_format = TextFormat(model, tokenizer)
    row = Row(encode_documents(tokenizer, [text])[0], sampling.max_new_tokens)
    row.limit = min(row.limit, text_format.context - len(row.prompt))
    text_format.check_room(row)
    return _stream(model, text_format, row, sampling, {}, stop or threading.Event())


def render_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant's reply begins.

    Raises `InputError` if the chat template refuses the conversation.
    """
    try:
        return encode_prompt(tokenizer, messages)
    except TemplateError as error:
        raise InputError(f"the model's chat template refuses the conversation: {error}.") from None


# The loop


@dataclass
class Row:
    """A reply that is being generated."""

    prompt: list[int]
    limit: int  # most tokens of the reply
    written: list[int] = field(default_factory=list)  # the model's tokens, and the results of its calls
    answered: int = 0  # tokens of `written` up to the end of the last result
    calls: int = 0
    done: bool = False

    @property
    def ids(self) -> list[int]:
        """All tokens so far."""
        return self.prompt + self.written

    @property
    def left(self) -> int:
        """Number of tokens that may still be written."""
        return self.limit - len(self.written)


class ChatFormat:
    """A model's chat format: which tokens end a reply, which are a tool call, and how tokens become messages."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.context = context_length(model)
        self.has_calls = has_chat_format(tokenizer)
        if self.has_calls:
            self.call_start, self.call_end = tokenizer.convert_tokens_to_ids([PYTHON_START, PYTHON_END])
            # The model should write no other special token: all of them end the reply.
            self.ends = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))) - {self.call_start}
            self.pad = tokenizer.convert_tokens_to_ids(ASSISTANT_END)
        else:
            self.call_start = self.call_end = None
            ends = model.generation_config.eos_token_id
            ends = tokenizer.eos_token_id if ends is None else ends
            self.ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
            self.pad = next((each for each in (tokenizer.pad_token_id, *self.ends) if each is not None), 0)

    def start(self, messages: Sequence[Message], max_new_tokens: int) -> Row:
        """A row with an empty reply to the conversation."""
        prompt = render_prompt(self.tokenizer, messages)
        return Row(prompt, limit=min(max_new_tokens, self.context - len(prompt)))

    def check_room(self, row: Row) -> None:
        """Raise `InputError` if the prompt fills the context."""
        if row.left < 1:
            raise InputError(
                f"the prompt has {len(row.prompt):,} tokens and the model's context only {self.context:,}: shorten it."
            )

    def append_tokens(self, row: Row, tokens: list[int]) -> str | None:
        """Append what the model wrote in one round, up to an end token. Returns the expression if it was a call."""
        tokens = tokens[: row.left]
        end = next((index for index, token in enumerate(tokens) if token in self.ends), None)
        row.written += tokens[:end]
        if end is not None and tokens[end] == self.call_end and row.calls < MAX_CALLS:
            current = row.written[row.answered :]
            if current.count(self.call_start) == 1:
                row.written.append(self.call_end)
                row.calls += 1
                expression = current[current.index(self.call_start) + 1 :]
                return self.tokenizer.decode(expression, skip_special_tokens=True)
        row.done = end is not None or row.left < 1
        return None

    def append_result(self, row: Row, result: str) -> None:
        """Append the result of the call at the end of the row."""
        row.written += encode_tool_result(self.tokenizer, result)
        row.answered = len(row.written)
        row.done = row.left < 1

    def messages(self, row: Row) -> list[Message]:
        """The row's reply as messages. The last one has no call, and is empty if nothing follows the last result."""
        if not self.has_calls:
            text = self.tokenizer.decode(row.written, skip_special_tokens=True)
            return [{"role": "assistant", "content": text.rstrip(BROKEN)}]
        current = row.written[row.answered :]
        end = current.index(self.call_start) if self.call_start in current else len(current)  # drop an unanswered call
        messages = parse_conversation(self.tokenizer, [row.prompt[-1], *row.written[: row.answered], *current[:end]])
        for message in messages:
            if message["role"] == "assistant":
                message["content"] = message["content"].rstrip(BROKEN)
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        return messages


class TextFormat(ChatFormat):
    """Plain text instead of a conversation."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(model, tokenizer)
        self.has_calls, self.call_start, self.call_end = False, None, None
        self.ends |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}


def _complete(
    model: PreTrainedModel,
    chat_format: ChatFormat,
    rows: list[Row],
    sampling: Sampling,
    tools: Tools,
    batch_size: int = 1,
    streamer: EventStreamer | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Generate until every row is done or `stop` returns True. Rows of similar length share a batch."""
    for row in rows:
        row.done = row.left < 1
    with _for_inference(model), _seeded(model.device, sampling.seed):
        while (active := [row for row in rows if not row.done]) and not stop():
            active.sort(key=lambda row: len(row.ids))
            for batch in (active[start : start + batch_size] for start in range(0, len(active), batch_size)):
                written = _generate(model, chat_format, batch, sampling, streamer, stop)
                for row, tokens in zip(batch, written, strict=True):
                    expression = chat_format.append_tokens(row, tokens)
                    if expression is not None:
                        result = tools[CALCULATOR](expression) if CALCULATOR in tools else "error: no such tool"
                        chat_format.append_result(row, result)
                        if streamer is not None:
                            streamer.called(expression, result)


def _generate(
    model: PreTrainedModel,
    chat_format: ChatFormat,
    batch: list[Row],
    sampling: Sampling,
    streamer: EventStreamer | None,
    stop: Callable[[], bool],
) -> list[list[int]]:
    """The next tokens of each row of a batch; tokens after the first end token are to be ignored."""
    width = max(len(row.ids) for row in batch)
    ids = torch.full((len(batch), width), chat_format.pad, device=model.device)  # (B, width)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(batch):  # padded on the left, so that all rows continue at the same position
        ids[index, width - len(row.ids) :] = torch.tensor(row.ids)
        mask[index, width - len(row.ids) :] = 1
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=min(max(row.left for row in batch), chat_format.context - width),
        eos_token_id=sorted(chat_format.ends) or None,
        pad_token_id=chat_format.pad,
        streamer=streamer,
        stopping_criteria=StoppingCriteriaList([_StopWhen(stop)]),
        **sampling.options(),
    )
    return output[:, width:].tolist()


class _StopWhen(StoppingCriteria):
    """Ends the generation of a whole batch as soon as `condition` returns True."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self.condition = condition

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        return torch.full((input_ids.size(0),), self.condition(), dtype=torch.bool, device=input_ids.device)


@contextmanager
def _for_inference(model: PreTrainedModel) -> Iterator[None]:
    """Turn off dropout, and restore the model's mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        with attention_for_decoding(model):
            yield
    finally:
        model.train(was_training)


@contextmanager
def attention_for_decoding(model: PreTrainedModel) -> Iterator[None]:
    """sdpa in place of eager attention, which trains short rows faster on a CPU, but has no fast decoding."""
    before = model.config._attn_implementation
    if before != "eager" or not model._supports_sdpa:
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


_RANDOM_STATE = threading.Lock()  # torch has one state for the whole process: only one thread samples at a time


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's random numbers, and restore their state afterwards."""
    with _RANDOM_STATE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# Streaming


def _stream(
    model: PreTrainedModel,
    chat_format: ChatFormat,
    row: Row,
    sampling: Sampling,
    tools: Tools,
    stop: threading.Event,
) -> Iterator[Event]:
    """Events of one row, generated by a thread. The thread ends when this iterator ends or is closed."""
    events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    abandoned = threading.Event()

    def write() -> None:
        try:
            streamer = EventStreamer(chat_format.tokenizer, chat_format.ends, chat_format.call_start, events.put)
            stopping = lambda: stop.is_set() or abandoned.is_set()  # noqa: E731
            _complete(model, chat_format, [row], sampling, tools, streamer=streamer, stop=stopping)
            streamer.flush()
            events.put(Reply(chat_format.messages(row), stopped=not row.done, tokens=len(row.written)))
        except BaseException as error:  # raised again by the iterator
            events.put(error)

    thread = threading.Thread(target=write, name="reply")
    thread.start()
    try:
        while True:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Reply):
                return
    finally:
        abandoned.set()
        thread.join()
