"""Streaming: turn the tokens that `generate` passes to a streamer into events of a reply."""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from tokenizer.chat import Message

BROKEN = "\N{REPLACEMENT CHARACTER}"  # bytes of an incomplete character are decoded to it
PACE = 1 / 20  # least seconds between two texts: as smooth to read as one text per token, and far cheaper


@dataclass(frozen=True)
class Text:
    """A piece of the assistant's text, in complete characters."""

    text: str


@dataclass(frozen=True)
class Call:
    """The assistant calls the calculator."""

    expression: str


@dataclass(frozen=True)
class Result:
    """The calculator's result."""

    text: str


@dataclass(frozen=True)
class Reply:
    """The last event: the messages of the whole reply, to be appended to the conversation."""

    messages: list[Message]
    stopped: bool  # by the caller, before the model ended its reply
    tokens: int = field(default=0, compare=False)  # in the reply, including calls and results; 0 if unknown


Event = Text | Call | Result | Reply


class EventStreamer(BaseStreamer):
    """A streamer for `generate` that emits events."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: Container[int],
        call_start: int | None,
        emit: Callable[[Event], None],
    ) -> None:
        self.tokenizer = tokenizer
        self.ends = ends  # tokens that end a text or a call
        self.call_start = call_start
        self.emit = emit
        self.is_prompt = True  # `generate` passes the prompt first
        self.in_call = False
        self.ids: list[int] = []  # tokens of the current text
        self.known = self.shown = 0  # `ids[:shown]` were emitted; `ids[known:shown]` are decoded again as context
        self.next_show = 0.0  # by time.monotonic(); the first text is emitted at once

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate` with the prompt, then with each token."""
        tokens = [] if self.is_prompt else value.flatten().tolist()
        self.is_prompt = False
        for token in tokens:
            if token in self.ends or token == self.call_start:
                self.flush()
                self.in_call = token == self.call_start
            elif not self.in_call:
                self.ids.append(token)
                if time.monotonic() >= self.next_show:
                    self._show()

    def end(self) -> None:
        """Called by `generate` at its end; it may be called again with a longer prompt."""
        self.is_prompt = True

    def called(self, expression: str, result: str) -> None:
        """Emit a call and its result."""
        self.emit(Call(expression))
        self.emit(Result(result))

    def flush(self) -> None:
        """Emit the rest of a text that ends here."""
        self._show(last=True)
        self.ids, self.known, self.shown = [], 0, 0

    def _show(self, last: bool = False) -> None:
        """Emit new text, unless its last character is incomplete.

        New tokens are decoded together with the ones emitted last, because some tokenizers omit the space before a
        word at the start of a text.
        """
        decode = self.tokenizer.decode
        before = decode(self.ids[self.known : self.shown], skip_special_tokens=True)
        text = decode(self.ids[self.known :], skip_special_tokens=True)[len(before) :]
        if last:
            text = text.rstrip(BROKEN)
        if text and not text.endswith(BROKEN):
            self.known, self.shown = self.shown, len(self.ids)
            self.next_show = time.monotonic() + PACE
            self.emit(Text(text))
