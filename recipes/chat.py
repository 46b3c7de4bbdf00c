"""Chat with a model: `python -m recipes.chat --model runs/NAME/grpo`, or ask it one question by `--prompt TEXT`.

With `--endpoint http://localhost:8000`, chat with a model that is served there over the OpenAI API.

Ctrl-C stops an answer, of which the part so far is kept. Ctrl-C twice at an empty prompt, or Ctrl-D, ends the program.
Several lines that are pasted at once are one question; from a pipe, each line is one.
"""

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
from recipes.inference.openai_client import read_key
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
MARK_PASTES, MARK_NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"  # turn bracketed paste on and off
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
PATIENT_PRESSES = 2  # of Ctrl-C that wait for an answer to stop; the next one does not
INTERRUPTED = 128 + signal.SIGINT  # exit code of shells after Ctrl-C


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
        """The conversation as the model sees it, with the history from message `first` on."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self.history[first:]

    def answer(self, text: str, show_calls: bool) -> Reply:
        """Print the answer to `text` as it is generated, and add both to the history.

        Raises `InputError` if `text` is empty or fills the context, and any error that interrupts the answer; the
        history is then unchanged.
        """
        check_utf8([text, self.system or ""])
        question = {"role": "user", "content": text}
        self.history.append(question)
        begun = False
        try:
            self.drop_oldest_exchanges()
            sampling = replace(self.sampling, seed=self.sampling.seed + self.asked)  # another seed for each answer
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
                print(flush=True)  # messages after this are not part of the answer
            raise

    def stream(self, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """Events of the reply to the conversation."""
        return stream_reply(self.model, self.tokenizer, self.messages(), sampling, stop=stop)

    def drop_oldest_exchanges(self) -> None:
        """Drop the oldest exchanges until the context has room for an answer, and print how many."""
        context = context_length(self.model)
        room = min(self.sampling.max_new_tokens, context // 4)
        questions = [index for index, message in enumerate(self.history) if message["role"] == "user"]

        def length(first: int) -> int:
            return len(render_prompt(self.tokenizer, self.messages(first)))

        last = len(questions) - 1
        dropped = next((n for n, first in enumerate(questions) if length(first) <= context - room), last)
        first = questions[dropped]
        if dropped and length(first) < context:  # else the newest question alone is too long and will be refused
            self.history = self.history[first:]
            what = "question was" if dropped == 1 else f"{dropped} questions were"
            print(f"(the oldest {what} dropped: the model's context is {context:,} tokens)", flush=True)

    def run_command(self, command: str) -> bool:
        """Run a line that begins with a slash. Returns False to end the program."""
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
        """Read and answer questions until the user ends the program."""
        leaving = False  # whether Ctrl-C was just pressed at an empty prompt
        while True:
            try:
                line = read_line("> ")
                leaving = False
                if line is None or (line.startswith("/") and not self.run_command(line.strip())):
                    break
                if line.strip() and not line.startswith("/"):
                    self.answer_or_report(line)
            except KeyboardInterrupt:  # also between an answer and the prompt
                if leaving:
                    break
                print(LEAVING, flush=True)
                leaving = True
        print("Bye.")

    def answer_or_report(self, text: str) -> None:
        """Print the answer, or what is wrong with the question. Other errors are printed with their traceback."""
        try:
            reply = self.answer(text, show_calls=True)
            print(" (stopped)" if reply.stopped else "", flush=True)
        except InputError as error:
            show(f"({error})\n")
        except Exception as error:
            traceback.print_exc()
            show(f"(the answer broke off by {type(error).__name__}; the conversation before it is kept)\n")


class EndpointChat(Chat):
    """A conversation with a model behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint, sampling: Sampling, system: str | None) -> None:
        super().__init__(None, None, sampling, system)
        self.endpoint = endpoint

    def stream(self, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """Events of the reply to the conversation."""
        return self.endpoint.stream_reply(self.messages(), sampling, stop)

    def drop_oldest_exchanges(self) -> None:
        """Do nothing: only the server knows its context, and it refuses conversations that are too long."""


def show(text: str) -> None:
    """Print text of a model or server at once, without control characters."""
    print(plain_text(text), end="", flush=True)


@contextmanager
def pastes_marked() -> Iterator[None]:
    """Turn on bracketed paste, by which the terminal marks pasted text, so that several pasted lines are one question.

    readline, which also gives input() arrow keys and a history, handles the marks itself; else `read_line` does.
    """
    by_hand = False
    try:
        import readline
    except ImportError:
        by_hand = sys.stdin.isatty()
    else:  # Python turns it off, because its own prompt reads line by line
        readline.parse_and_bind("set enable-bracketed-paste on")
    print(MARK_PASTES if by_hand else "", end="", flush=True)
    try:
        yield
    finally:
        print(MARK_NO_PASTES if by_hand else "", end="", flush=True)


def read_line(prompt: str) -> str | None:
    """The next question or command, or None at the end of input. On a terminal, lines that arrive at once are one.

    Ctrl-C discards the typed text; raises `KeyboardInterrupt` if there is none.
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
    """Whether the terminal has more input already: pasted text, if the terminal does not mark it."""
    return sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], 0)[0])


def typed_so_far() -> str:
    """The text on the line being edited; empty without readline."""
    readline = sys.modules.get("readline")
    return readline.get_line_buffer() if readline else ""


@contextmanager
def ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    """Make Ctrl-C set `stop`. A second press is ignored, since it may be accidental; a third raises at once."""
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
    """Load the model, or find the endpoint, that the arguments name. Raises `InputError` if they name none."""
    max_new_tokens = 512 if args.max_new_tokens is None else args.max_new_tokens
    sampling = Sampling(max_new_tokens, args.temperature, args.top_k, args.top_p, args.seed)
    if args.endpoint is None:
        if args.model is None:
            raise InputError("no model to chat with: give a chat model by --model, or a server by --endpoint.")
        if args.api_key_env is not None:
            raise InputError("api_key_env is for an endpoint: give --endpoint as well, or leave it out.")
        check_learnt_to_chat(args.model)
        return Chat(*load_chat_model(args.model), sampling, args.system)
    if args.top_k is not None:
        raise InputError("top_k is not part of the OpenAI API: sample by --top_p from an endpoint.")
    return EndpointChat(
        Endpoint(args.endpoint, args.model, read_key(args.api_key_env), args.max_new_tokens), sampling, args.system
    )


def chat(args: ChatArguments) -> None:
    """Load the model or find its server, then answer `--prompt` or chat."""
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of scripts inherit SIGINT ignored
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # terminals may not use UTF-8
    try:
        chat(args)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    exit_on_input_error("chat", lambda: main(ARGS))
