"""Event handlers of the page: each one belongs to an event and returns the updates of its components.

A question takes two events. The first runs at once, without waiting in the queue: it checks the message and shows it.
The second waits in the queue and streams the answer.

Handlers return values, never `gr.update`, and `gr.skip` only where nobody waits any more: for each of these, gradio
creates a new component and keeps it as long as the session. Everything else, such as buttons, changes in the browser.
"""

import math
import re
import secrets
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import gradio as gr

from recipes.inference.generate import Reply, Sampling, Text
from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text

from .conversation import Answer, Shown, as_messages, fitting, last_question, shown_text, text_of, tidy, typed
from .engine import Engine
from .limits import MAX_MESSAGE, MAX_NEW_TOKENS, MAX_SYSTEM, check_length, check_message
from .turns import Turn, Turns, limited

Updates = tuple[Any, ...]
NOT_ASKED = 0  # in place of a turn's number
BROKEN_OFF = "broken off"  # the line under an answer that an error ended


def warn(error: Exception) -> None:
    """Show a visitor's mistake as one line on the page; print the traceback of any other error to the console."""
    if isinstance(error, InputError):
        message = str(error)
        gr.Warning(message[0].upper() + message[1:])
    else:
        traceback.print_exception(error)
        gr.Warning("Something went wrong here. What you wrote is still there: try again.")


def sampling_of(temperature: Any, top_k: Any, top_p: Any, max_tokens: Any, seed: Any) -> Sampling:
    """Sampling settings from the controls' values, as a browser sent them. An empty seed means a new one each time.

    Raises `InputError` for impossible values.
    """
    temperature, top_p = number("temperature", temperature), number("top-p", top_p)
    top_k, max_tokens = number("top-k", top_k), number("number of tokens", max_tokens)
    seed = "" if seed is None else str(seed).strip()
    if not re.fullmatch(r"[0-9]{0,18}", seed):
        raise InputError("The seed must be a whole number of at most 18 digits, or nothing.")
    if top_k < 0:
        raise InputError("The top-k must be 0 or more.")
    greedy = temperature == 0
    return Sampling(
        max_new_tokens=int(min(max_tokens, MAX_NEW_TOKENS)),
        temperature=temperature,
        top_k=None if greedy or top_k < 1 else int(top_k),
        top_p=1.0 if greedy else top_p,
        seed=int(seed) if seed else secrets.randbelow(2**31),
    )


def number(name: str, value: Any) -> float:
    """The value of a control. Raises `InputError` if it is not a number, for example because its box was emptied."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"The {name} must be a number.")
    return float(value)


def figures(
    reply: Reply | None, seconds: float, prompt: int, engine: Engine, sampling: Sampling, left_out: int = 0
) -> str:
    """The line under an answer: tokens, speed, context used, seed, questions left out."""
    if reply is None:
        return "stopped"
    parts = ["stopped"] if reply.stopped else []
    parts.append(f"{reply.tokens:,} token{'s' * (reply.tokens != 1)}")
    if reply.tokens:
        parts.append(f"{reply.tokens / max(seconds, 1e-6):,.0f} tokens/s")
    if engine.context < 2**31:
        parts.append(f"context {prompt + reply.tokens:,} of {engine.context:,}")
    if sampling.temperature:
        parts.append(f"seed {sampling.seed}")
    if left_out:
        parts.append(f"{left_out} older question{'s' * (left_out != 1)} left out")
    return " · ".join(parts)


def awaited(updates: Iterator[Updates], turns: Turns, session: str, turn: Turn) -> Iterator[Updates]:
    """Yield updates until the visitor has cleared this answer or asked something else."""
    with turn.writing():
        for update in updates:
            if turns.current(session, turn.number) is None:
                yield (gr.skip(),) * len(update)  # sends the last update once more
                return
            yield update


class Talk:
    """The chat tab."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.turns = Turns()

    def send(self, shown: list[Shown], box: str, line: str, request: gr.Request) -> Updates:
        """Show the question and clear the text box."""
        conversation, line, number = self._ask(box, shown, len(shown), line, request)
        return conversation, box if number == NOT_ASKED else "", line, number

    def example(self, shown: list[Shown], line: str, data: gr.SelectData, request: gr.Request) -> Updates:
        return self._ask(data.value["text"], shown, len(shown), line, request)

    def retry(self, shown: list[Shown], line: str, request: gr.Request) -> Updates:
        """Ask the last question again."""
        asked = last_question(shown)
        return self._ask(text_of(shown[asked]) if shown else "", shown, asked, line, request)

    def edit(self, shown: list[Shown], line: str, data: gr.EditData, request: gr.Request) -> Updates:
        """Replace an earlier question; everything after it is removed."""
        index = data.index[0] if isinstance(data.index, list | tuple) else data.index
        shown[int(index)] = shown_text("user", typed(str(data.previous_value)))  # the page already shows the new text
        return self._ask(typed(str(data.value)), shown, int(index), line, request)

    def undo(self, shown: list[Shown], request: gr.Request) -> Updates:
        """Take the last question back into the text box."""
        self.turns.forget(request.session_hash)
        asked = last_question(shown)
        return shown[:asked], text_of(shown[asked]) if shown else "", ""

    def stop(self, request: gr.Request) -> None:
        self.turns.stop(request.session_hash)

    def clear(self, request: gr.Request) -> Updates:
        self.turns.forget(request.session_hash)
        return [], ""

    def leave(self, request: gr.Request) -> None:
        self.turns.forget(request.session_hash)

    def _ask(self, text: str, shown: list[Shown], place: int, line: str, request: gr.Request) -> Updates:
        """Put a question at index `place` and remove everything from there on. A refused question changes nothing."""
        try:
            check_ready(self.engine)
            question = shown_text("user", check_message(text))
            conversation = tidy([*shown[:place], question])
        except InputError as error:
            warn(error)
            return shown, line, NOT_ASKED
        return conversation, "", self.turns.begin(request.session_hash)

    def answer(
        self,
        number: int,
        shown: list[Shown],
        system: str,
        temperature: float,
        top_k: float,
        top_p: float,
        max_tokens: float,
        seed: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Stream the answer to the last question of `shown`, then a line of figures."""
        turn = self.turns.current(request.session_hash, number)
        if turn is not None:
            controls = system, temperature, top_k, top_p, max_tokens, seed
            updates = self._write(shown, turn.stop, *controls)
            yield from awaited(updates, self.turns, request.session_hash, turn)
        else:
            yield gr.skip(), gr.skip()

    def _write(
        self,
        shown: list[Shown],
        stop: threading.Event,
        system: str,
        *controls: Any,
    ) -> Iterator[Updates]:
        answer, line = Answer(), BROKEN_OFF
        try:
            shown = tidy(shown)
            check_ready(self.engine)
            check_length("system prompt", system, MAX_SYSTEM)
            sampling = sampling_of(*controls)
            messages = as_messages(shown)
            room = min(sampling.max_new_tokens, self.engine.context // 4)
            read, prompt = fitting(self.engine.tokenizer, plain_text(system), messages, self.engine.context - room)
            left_out = sum(each["role"] == "user" for each in messages) - sum(each["role"] == "user" for each in read)
            started, reply = time.perf_counter(), None
            for event in limited(self.engine.stream(read, sampling, stop), stop):
                if isinstance(event, Reply):
                    reply = event
                else:
                    answer.add(event)
                    yield shown + answer.shown, ""
            line = figures(reply, time.perf_counter() - started, prompt, self.engine, sampling, left_out)
        except Exception as error:
            warn(error)
        if not answer.shown:
            line = f"no answer · {line}"
        yield shown + answer.shown, line


class Continue:
    """The tab that continues a text, as a base model does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.turns = Turns()

    def begin(self, text: str, line: str, request: gr.Request) -> Updates:
        try:
            check_ready(self.engine)
            check_length("text", text, MAX_MESSAGE)
        except InputError as error:
            warn(error)
            return line, NOT_ASKED
        return "", self.turns.begin(request.session_hash)

    def stop(self, request: gr.Request) -> None:
        self.turns.stop(request.session_hash)

    def leave(self, request: gr.Request) -> None:
        self.turns.forget(request.session_hash)

    def write(
        self,
        number: int,
        text: str,
        temperature: float,
        top_k: float,
        top_p: float,
        max_tokens: float,
        seed: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Stream the continuation of `text` into its box, then a line of figures."""
        turn = self.turns.current(request.session_hash, number)
        if turn is not None:
            updates = self._write(text, turn.stop, temperature, top_k, top_p, max_tokens, seed)
            yield from awaited(updates, self.turns, request.session_hash, turn)
        else:
            yield gr.skip(), gr.skip()

    def _write(self, text: str, stop: threading.Event, *controls: Any) -> Iterator[Updates]:
        line = BROKEN_OFF
        try:
            check_ready(self.engine)
            check_length("text", text, MAX_MESSAGE)
            text = plain_text(text)
            sampling = sampling_of(*controls)
            prompt = len(self.engine.tokenizer.encode(text, add_special_tokens=False)) + 1
            started, reply = time.perf_counter(), None
            for event in limited(self.engine.stream(text, sampling, stop), stop):
                if isinstance(event, Text):
                    text += event.text
                    yield text, ""
                else:
                    reply = event
            line = figures(reply, time.perf_counter() - started, prompt, self.engine, sampling)
        except Exception as error:
            warn(error)
        yield text, line


def check_ready(engine: Engine) -> None:
    """Raise `InputError` while the model is not loaded."""
    if not engine.ready:
        raise InputError(f"The model is not there yet. {engine.trouble or 'It is being loaded.'}")
