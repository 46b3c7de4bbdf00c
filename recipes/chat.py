"""Talk to a model: `python -m recipes.chat --model runs/NAME/grpo`, or ask it once by `--prompt TEXT`.

With `--endpoint http://localhost:8000` the model is one that is served there, over the OpenAI API.

Ctrl-C stops the answer, which is kept as far as it came; twice at an empty prompt, it ends the program, as Ctrl-D
does. A pasted text of several lines is one question; from a pipe, each line is one.
"""

import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class ChatArguments(Arguments):
    """Flags of `python -m recipes.chat`."""

    model: str | None = flag(
        None, "directory or Hub id of a chat model; of an endpoint, the name to ask for", path=True
    )
    endpoint: str | None = flag(None, "URL of an OpenAI-compatible server, as http://localhost:8000")
    api_key_env: str | None = flag(None, "environment variable that holds the endpoint's key (default: no key)")
    prompt: str | None = flag(None, "answer this on stdout, and end")
    system: str | None = flag(None, "instructions for the model")
    temperature: float = flag(0.0, "of sampling; 0 takes the likeliest token", least=0)
    top_k: int | None = flag(None, "sample from this many likeliest tokens only", least=1)
    top_p: float = flag(1.0, "sample from the likeliest tokens of this total probability", above=0, most=1)
    max_new_tokens: int | None = flag(
        None, "tokens of one answer (default: 512; of an endpoint, what it allows)", least=1
    )
    seed: int = flag(0, "of sampling", least=0, below=2**32)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("chat", ChatArguments)

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from recipes.inference.endpoint import Endpoint
from recipes.inference.generate import (
    Call,
    Event,
    Reply,
    Result,
    Sampling,
    Text,
    context_length,
    render_prompt,
    stream_reply,
)
from recipes.inference.models import load_chat_model
from recipes.utils.plain_text import plain_text
from recipes.utils.run_directory import check_learnt_to_chat
from tokenizer.chat import Message
from tokenizer.encode import check_utf8

HELP = """\
/clear         forget the conversation
/system TEXT   instructions for the model, from now on (without TEXT: none)
/help          this list
/quit          end; so do Ctrl-D, and Ctrl-C twice at an empty prompt
Ctrl-C stops an answer; what came so far stays in the conversation."""
LEAVING = "(press Ctrl-C again, or /quit, to leave)"
MARK_PASTES, MARK_NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"  # what asks a terminal for it
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
PATIENT_PRESSES = 2  # of Ctrl-C while an answer is being stopped
INTERRUPTED = 128 + signal.SIGINT  # the exit code of shells for Ctrl-C


class Chat:
    """A conversation with a model on this terminal."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling, system: str | None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.system = system
        self.history: list[Message] = []
        self.asked = 0

    def messages(self, first: int = 0) -> list[Message]:
        """The conversation as the model sees it, its history from message `first` on."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self.history[first:]

    def answer(self, text: str, show_calls: bool) -> Reply:
        """Print the answer to `text` as it comes, and keep both in the history.

        Raises `InputError` if it is empty or fills the context, and whatever breaks the answer off; `text` is then
        forgotten.
        """
        check_utf8([text, self.system or ""])
        question = {"role": "user", "content": text}
        self.history.append(question)
        begun = False
        try:
            self.forget_what_no_longer_fits()
            sampling = replace(self.sampling, seed=self.sampling.seed + self.asked)  # other draws each time
            self.asked += 1
            stop = threading.Event()
            with ctrl_c_sets(stop):
                for event in self.stream(sampling, stop):
                    match event:
                        case Text(piece):
                            show(piece)
                        case Call(expression) if show_calls:
                            show(f"[{expression}")
                        case Result(result) if show_calls:
                            show(f" = {result}]")
                        case Reply() as reply:
                            self.history += reply.messages
                            return reply
                    begun = True
        except BaseException:
            while self.history.pop() is not question:
                pass
            if begun:
                print(flush=True)  # what follows is no part of the answer
            raise

    def stream(self, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """The reply to the conversation as it is written."""
        return stream_reply(self.model, self.tokenizer, self.messages(), sampling, stop=stop)

    def forget_what_no_longer_fits(self) -> None:
        """Drop the oldest exchanges until there is room for an answer, and say so."""
        context = context_length(self.model)
        room = min(self.sampling.max_new_tokens, context // 4)
        questions = [index for index, message in enumerate(self.history) if message["role"] == "user"]

        def length(first: int) -> int:
            return len(render_prompt(self.tokenizer, self.messages(first)))

        last = len(questions) - 1
        dropped = next((n for n, first in enumerate(questions) if length(first) <= context - room), last)
        first = questions[dropped]
        if dropped and length(first) < context:  # otherwise the newest alone is too long, and will not be answered
            self.history = self.history[first:]
            what = "question was" if dropped == 1 else f"{dropped} questions were"
            print(f"(the oldest {what} dropped: the model's context is {context:,} tokens)", flush=True)

    def obey(self, command: str) -> bool:
        """Carry out a line that begins with a slash. Returns whether to go on."""
        name, _, rest = command.partition(" ")
        match name:
            case "/quit" | "/exit":
                return False
            case "/clear":
                self.history.clear()
                print("(a new conversation)")
            case "/system":
                self.system = rest.strip() or None
                print("(understood)" if self.system else "(no instructions)")
            case "/help":
                print(HELP)
            case _:
                print(f"{name} is not known; a question may begin so with a space in front:\n{HELP}")
        return True

    def run(self) -> None:
        """Questions and answers until the user ends it."""
        leaving = False  # Ctrl-C was pressed where it stopped nothing
        while True:
            try:
                line = read_line("> ")
                leaving = False
                if line is None or (line.startswith("/") and not self.obey(line.strip())):
                    break
                if line.strip() and not line.startswith("/"):
                    self.answer_or_say_why_not(line)
            except KeyboardInterrupt:  # also between an answer and the prompt
                if leaving:
                    break
                print(LEAVING, flush=True)
                leaving = True
        print("Bye.")

    def answer_or_say_why_not(self, text: str) -> None:
        """Print the answer, or the mistake in one line. For a mistake of ours a traceback comes first."""
        try:
            reply = self.answer(text, show_calls=True)
            print(" (stopped)" if reply.stopped else "", flush=True)
        except InputError as error:
            show(f"({error})\n")
        except Exception as error:
            traceback.print_exc()
            show(f"(the answer broke off by {type(error).__name__}; the conversation before it is kept)\n")


class EndpointChat(Chat):
    """A conversation with a model that is served elsewhere."""

    def __init__(self, endpoint: Endpoint, sampling: Sampling, system: str | None) -> None:
        super().__init__(None, None, sampling, system)
        self.endpoint = endpoint

    def stream(self, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """The reply to the conversation as it comes."""
        return self.endpoint.stream_reply(self.messages(), sampling, stop)

    def forget_what_no_longer_fits(self) -> None:
        """Nothing: what the context is, the server knows, and it says so where a conversation is too long."""


def show(text: str) -> None:
    """Print what a model or a server has said, at once; it does nothing to the terminal."""
    print(plain_text(text), end="", flush=True)


@contextmanager
def pastes_marked() -> Iterator[None]:
    """Have the terminal mark what is pasted ("bracketed paste"): then several lines of it are one question.

    readline, which also gives input() arrow keys and a history, reads the marks itself; without it `read_line` does.
    """
    by_hand = False
    try:
        import readline
    except ImportError:
        by_hand = sys.stdin.isatty()
    else:  # Python switches it off, because its own prompt wants line after line
        readline.parse_and_bind("set enable-bracketed-paste on")
    print(MARK_PASTES if by_hand else "", end="", flush=True)
    try:
        yield
    finally:
        print(MARK_NO_PASTES if by_hand else "", end="", flush=True)


def read_line(prompt: str) -> str | None:
    """The next question or command, or None at the end. On a terminal, lines that come at once belong together.

    Ctrl-C discards what has been typed; raises `KeyboardInterrupt` if nothing has.
    """
    while True:
        try:
            text = input(prompt)
            while text.count(PASTE_BEGINS) > text.count(PASTE_ENDS) or (more_has_come() and not text.startswith("/")):
                text += "\n" + input()
            return text.replace(PASTE_BEGINS, "").replace(PASTE_ENDS, "").strip("\n")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            if not typed_so_far():
                raise


def more_has_come() -> bool:
    """Whether more is to be read from the terminal already: a paste, where the terminal does not mark it as one."""
    return sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], 0)[0])


def typed_so_far() -> str:
    """What stands on the line being edited; nothing where there is no readline."""
    readline = sys.modules.get("readline")
    return readline.get_line_buffer() if readline else ""


@contextmanager
def ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop`. A second one adds nothing, as keys are easily pressed twice; a third does not wait."""
    presses = 0

    def on_interrupt(number: int, frame: object) -> None:
        nonlocal presses
        presses += 1
        stop.set()
        if presses > PATIENT_PRESSES:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def open_conversation(args: ChatArguments) -> Chat:
    """The model of the arguments, ready to talk. Raises `InputError` if there is none."""
    max_new_tokens = 512 if args.max_new_tokens is None else args.max_new_tokens
    sampling = Sampling(max_new_tokens, args.temperature, args.top_k, args.top_p, args.seed)
    if args.endpoint is None:
        if args.model is None:
            raise InputError("nobody to talk to: name a chat model by --model, or a server by --endpoint.")
        if args.api_key_env is not None:
            raise InputError("api_key_env is for an endpoint: give --endpoint as well, or leave it out.")
        check_learnt_to_chat(args.model)
        return Chat(*load_chat_model(args.model), sampling, args.system)
    if args.top_k is not None:
        raise InputError("top_k is not part of the OpenAI API: sample by --top_p from an endpoint.")
    return EndpointChat(
        Endpoint(args.endpoint, args.model, read_key(args.api_key_env), args.max_new_tokens), sampling, args.system
    )


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable. Raises `InputError` if that holds none."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"environment variable {variable} holds no key: set it, or leave out api_key_env.")
    return key


def chat(args: ChatArguments) -> None:
    """Load the model or find its server, then answer once or talk."""
    logging.set_verbosity_error()
    conversation = open_conversation(args)
    if args.prompt is None:
        print(f"Talking to {args.endpoint or args.model}. /help lists the commands.")
        with pastes_marked():
            conversation.run()
        return
    reply = conversation.answer(args.prompt, show_calls=False)
    print(flush=True)
    if reply.stopped:
        sys.exit(INTERRUPTED)


def main(args: ChatArguments) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job inherits that it is ignored
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # a terminal may send and show anything
    try:
        chat(args)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    exit_on_input_error("chat", lambda: main(ARGS))
