"""A reply as it is written: events for whoever shows it, made from the tokens that `generate` hands out."""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from tokenizer.chat import Message

BROKEN = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to while the rest of their character is not there yet
PACE = 1 / 20  # seconds between two texts, at least: reads as smoothly as every token, and costs far less


@dataclass(frozen=True)
class Text:
    """A piece of what the assistant says, in whole characters."""

    text: str


@dataclass(frozen=True)
class Call:
    """The assistant calls a tool, with this expression."""

    expression: str


@dataclass(frozen=True)
class Result:
    """What the tool answers."""

    text: str


@dataclass(frozen=True)
class Reply:
    """The end: the messages of the whole reply, to be appended to the conversation."""

    messages: list[Message]
    stopped: bool  # from outside, before the model had ended
    tokens: int = field(default=0, compare=False)  # written, calls and their results included; 0 if not known


Event = Text | Call | Result | Reply


class EventStreamer(BaseStreamer):
    """Turns the tokens that `generate` hands out into events."""

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
        self.is_prompt = True  # the first thing that `generate` hands out is the prompt
        self.in_call = False
        self.ids: list[int] = []  # of the text so far
        self.known = self.shown = 0  # `ids` up to here have been shown; those between the two are decoded along
        self.next_show = 0.0  # time.monotonic(); the first text is shown at once

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
        """Called by `generate` at its end: another call of it may follow."""
        self.is_prompt = True

    def called(self, expression: str, result: str) -> None:
        """Tell of a call and its result."""
        self.emit(Call(expression))
        self.emit(Result(result))

    def flush(self) -> None:
        """Show what was held back, as the text ends here."""
        self._show(last=True)
        self.ids, self.known, self.shown = [], 0, 0

    def _show(self, last: bool = False) -> None:
        """Emit the text that is new, unless its last character is not whole yet.

        The tokens shown last are decoded together with the new ones: some tokenizers write a word's space only
        where something stands before it.
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
