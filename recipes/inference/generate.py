"""Replies of a chat model, tools included: in batches for evaluation and checks, piece by piece for people.

One loop serves both. The model writes until its turn ends or until it calls a tool; a call gets its result appended
as tokens, and the model goes on. What it wrote is never tokenized again, so it sees exactly what it wrote.

A model with another family's chat template works as well, with plain text: its tools are not run.
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

MAX_CALLS = 8  # of one reply; where the model calls once more, the reply ends

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
LOWEST_TEMPERATURE = 1e-3  # below it the likeliest token is as good as certain, and logits soon overflow
TOOLS: Tools = {CALCULATOR: calculator}


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn: greedily by default. Raises `InputError` for impossible values.

    `max_new_tokens` bounds the whole reply, calls and results included. The same `seed` draws the same replies.
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
        """The same as arguments of `generate`."""
        if self.temperature < LOWEST_TEMPERATURE:
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": float(self.temperature),  # a 2 out of JSON is an int, which transformers refuses
            "top_k": self.top_k or 0,  # 0 switches off the default of 50
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
    """The new messages of each conversation: calls and their results, and last a message without calls.

    Greedy replies are those that each conversation would get alone. A prompt that fills the model's context gets an
    empty reply: one of thousands should not end an evaluation. Raises `InputError` for a model without chat template.
    """
    check_chat_template(tokenizer)
    form = ChatForm(model, tokenizer)
    rows = [form.start(messages, sampling.max_new_tokens) for messages in conversations]
    _write(model, form, rows, sampling, tools, batch_size)
    return [form.messages(row) for row in rows]


def stream_reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    sampling: Sampling,
    tools: Tools = TOOLS,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """The reply to one conversation as it is written; the last event is the `Reply`, also after `stop` has been set.

    Raises `InputError` at once for a model without chat template, an empty prompt, or one that fills the context.
    """
    check_chat_template(tokenizer)
    if not messages or not messages[-1]["content"].strip():
        raise InputError("the prompt is empty: write something.")
    check_utf8([message["content"] for message in messages])
    form = ChatForm(model, tokenizer)
    row = form.start(messages, sampling.max_new_tokens)
    form.check_room(row)
    return _stream(model, form, row, sampling, tools, stop or threading.Event())


def stream_completion(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    sampling: Sampling,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """`text` as a base model goes on with it, `Text` by `Text`; the last event is the `Reply` that holds it all.

    Any model will do: nothing is a call, and whatever special token it writes is the end. Raises `InputError` at once
    for a text that fills the context.
    """
    form = TextForm(model, tokenizer)
    row = Row(encode_documents(tokenizer, [text])[0], sampling.max_new_tokens)
    row.limit = min(row.limit, form.context - len(row.prompt))
    form.check_room(row)
    return _stream(model, form, row, sampling, {}, stop or threading.Event())


def render_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Token ids up to where the assistant goes on. Raises `InputError` for what the chat template refuses."""
    try:
        return encode_prompt(tokenizer, messages)
    except TemplateError as error:
        raise InputError(f"the model's chat template refuses the conversation: {error}.") from None


def context_length(model: PreTrainedModel, without_limit: int = 2**31) -> int:
    """Tokens that prompt and reply may have together; `without_limit` for a model without positions."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or without_limit


# The loop


@dataclass
class Row:
    """One reply in the making."""

    prompt: list[int]
    limit: int  # tokens that may be written
    written: list[int] = field(default_factory=list)  # by the model, and the results of its calls
    answered: int = 0  # tokens of `written` up to the last result
    calls: int = 0
    done: bool = False

    @property
    def ids(self) -> list[int]:
        """All tokens so far."""
        return self.prompt + self.written

    @property
    def left(self) -> int:
        """Tokens that may still be written."""
        return self.limit - len(self.written)


class ChatForm:
    """What the loop has to know of a model's chat format: where writing ends, what a call is, how tokens are read."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.context = context_length(model)
        self.ours = has_chat_format(tokenizer)
        if self.ours:
            self.call_start, self.call_end = tokenizer.convert_tokens_to_ids([PYTHON_START, PYTHON_END])
            # Any other special token is not for the model to write: it ends the reply.
            self.ends = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))) - {self.call_start}
            self.pad = tokenizer.convert_tokens_to_ids(ASSISTANT_END)
        else:
            self.call_start = self.call_end = None
            ends = model.generation_config.eos_token_id
            ends = tokenizer.eos_token_id if ends is None else ends
            self.ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
            self.pad = next((each for each in (tokenizer.pad_token_id, *self.ends) if each is not None), 0)

    def start(self, messages: Sequence[Message], max_new_tokens: int) -> Row:
        """A row that holds nothing but its prompt."""
        prompt = render_prompt(self.tokenizer, messages)
        return Row(prompt, limit=min(max_new_tokens, self.context - len(prompt)))

    def check_room(self, row: Row) -> None:
        """Raise `InputError` if the prompt fills the context."""
        if row.left < 1:
            raise InputError(
                f"the prompt has {len(row.prompt):,} tokens and the model's context only {self.context:,}: shorten it."
            )

    def take(self, row: Row, tokens: list[int]) -> str | None:
        """Add what the model wrote in one round, up to its end. Returns the expression if that was a call."""
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

    def answer(self, row: Row, result: str) -> None:
        """Add the result of the call that the row ends with."""
        row.written += encode_tool_result(self.tokenizer, result)
        row.answered = len(row.written)
        row.done = row.left < 1

    def messages(self, row: Row) -> list[Message]:
        """The row's reply. It ends with a message without a call, empty if nothing more was said."""
        if not self.ours:
            text = self.tokenizer.decode(row.written, skip_special_tokens=True)
            return [{"role": "assistant", "content": text.rstrip(BROKEN)}]
        current = row.written[row.answered :]
        said = current.index(self.call_start) if self.call_start in current else len(current)  # no unanswered call
        messages = parse_conversation(self.tokenizer, [row.prompt[-1], *row.written[: row.answered], *current[:said]])
        for message in messages:
            if message["role"] == "assistant":
                message["content"] = message["content"].rstrip(BROKEN)
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        return messages


class TextForm(ChatForm):
    """Plain text instead of a conversation."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(model, tokenizer)
        self.ours, self.call_start, self.call_end = False, None, None
        self.ends |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}


def _write(
    model: PreTrainedModel,
    form: ChatForm,
    rows: list[Row],
    sampling: Sampling,
    tools: Tools,
    batch_size: int = 1,
    streamer: EventStreamer | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Let the model write until every row is done or `stop` says so. Rows of similar length share a batch."""
    for row in rows:
        row.done = row.left < 1
    with _for_inference(model), _seeded(model.device, sampling.seed):
        while (active := [row for row in rows if not row.done]) and not stop():
            active.sort(key=lambda row: len(row.ids))
            for batch in (active[start : start + batch_size] for start in range(0, len(active), batch_size)):
                for row, tokens in zip(batch, _generate(model, form, batch, sampling, streamer, stop), strict=True):
                    expression = form.take(row, tokens)
                    if expression is not None:
                        result = tools[CALCULATOR](expression) if CALCULATOR in tools else "error: no such tool"
                        form.answer(row, result)
                        if streamer is not None:
                            streamer.called(expression, result)


def _generate(
    model: PreTrainedModel,
    form: ChatForm,
    batch: list[Row],
    sampling: Sampling,
    streamer: EventStreamer | None,
    stop: Callable[[], bool],
) -> list[list[int]]:
    """What the model writes next in each row of a batch; whatever stands after a row's end means nothing."""
    width = max(len(row.ids) for row in batch)
    ids = torch.full((len(batch), width), form.pad, device=model.device)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(batch):
        ids[index, width - len(row.ids) :] = torch.tensor(row.ids)
        mask[index, width - len(row.ids) :] = 1
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=min(max(row.left for row in batch), form.context - width),
        eos_token_id=sorted(form.ends) or None,
        pad_token_id=form.pad,
        streamer=streamer,
        stopping_criteria=StoppingCriteriaList([_StopWhen(stop)]),
        **sampling.options(),
    )
    return output[:, width:].tolist()


class _StopWhen(StoppingCriteria):
    """Ends the generation of a whole batch as soon as `condition` holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self.condition = condition

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        return torch.full((input_ids.size(0),), self.condition(), dtype=torch.bool, device=input_ids.device)


@contextmanager
def _for_inference(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


_RANDOM_STATE = threading.Lock()  # there is one for the whole process: replies are drawn one after the other


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draw from `seed`, and leave the random state of torch as it was."""
    with _RANDOM_STATE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# Streaming


def _stream(
    model: PreTrainedModel,
    form: ChatForm,
    row: Row,
    sampling: Sampling,
    tools: Tools,
    stop: threading.Event,
) -> Iterator[Event]:
    """Events of one row, which a thread writes. The thread ends with this iterator, however that ends."""
    events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    abandoned = threading.Event()

    def write() -> None:
        try:
            streamer = EventStreamer(form.tokenizer, form.ends, form.call_start, events.put)
            stopping = lambda: stop.is_set() or abandoned.is_set()  # noqa: E731
            _write(model, form, [row], sampling, tools, streamer=streamer, stop=stopping)
            streamer.flush()
            events.put(Reply(form.messages(row), stopped=not row.done, tokens=len(row.written)))
        except BaseException as error:  # raised where the reply is read
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
