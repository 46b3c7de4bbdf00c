"""The chat program as its user sees it: in a terminal of its own, and in a pipe."""

import fcntl
import io
import multiprocessing
import os
import pty
import re
import runpy
import select
import signal
import struct
import sys
import termios
import time
from contextlib import redirect_stdout
from pathlib import Path

import psutil
import pytest
import torch

from recipes.chat import Chat, ChatArguments, chat
from recipes.inference.generate import Sampling, Text
from recipes.utils.errors import InputError
from tests.recipes.inference.talker import KNOWN, SCRIPTS, always, load_tokenizer, train_talker, user
from tests.recipes.processes import PATIENCE, REPOSITORY, _server

pytestmark = pytest.mark.launch

CALCULATION = "Let me see: [12*4 = 48]It is 48."


@pytest.fixture(scope="module")
def talker(tokenizer_dir):
    return train_talker(tokenizer_dir)


@pytest.fixture(scope="module")
def talker_dir(talker, tmp_path_factory) -> Path:
    return save(*talker, tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def endless_dir(tokenizer_dir, tmp_path_factory) -> Path:
    """A model that never stops by itself."""
    tokenizer = load_tokenizer(tokenizer_dir, 10**6)
    return save(always("a", tokenizer), tokenizer, tmp_path_factory.mktemp("endless"))


def save(model, tokenizer, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


class Terminal:
    """`python -m recipes.chat *argv` in a terminal of its own, of the kind `term`."""

    def __init__(self, *argv: str, term: str = "dumb", has_readline: bool = True) -> None:
        self.keyboard, terminal = pty.openpty()
        name = os.ttyname(terminal)
        self.process = _server().Process(target=_in_terminal, args=(list(argv), name, term, has_readline))
        self.process.start()
        self.screen = ""
        self.seen = 0  # characters of the screen
        self.printed = b""
        self.terminal = terminal  # kept open: the other end would otherwise report an end before the program begins

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.keyboard, text.encode())

    def wait_for(self, text: str) -> str:
        """What appears from here on, up to and with `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen[self.seen :]:
            assert time.monotonic() < deadline and self._read(), f"{text!r} did not come:\n{self.screen}"
        start, self.seen = self.seen, self.screen.index(text, self.seen) + len(text)
        return self.screen[start : self.seen]

    def wait_for_sleep(self) -> None:
        """Until it really waits for a key: Python's input() misses a Ctrl-C between its prompt and its wait."""
        deadline = time.monotonic() + PATIENCE
        while psutil.Process(self.process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, f"it does not wait for a key:\n{self.screen}"
            time.sleep(0.01)

    def ask(self, question: str) -> str:
        """Type a line at the prompt; all that is printed until the next prompt."""
        self.type(question + "\n")
        self.wait_for(question)
        return self.wait_for("\n> ").strip("> \n")

    def end(self) -> int:
        """The exit code."""
        self.process.join(PATIENCE)
        while select.select([self.keyboard], [], [], 0)[0]:
            self._read()
        assert self.process.exitcode is not None, f"it does not end:\n{self.screen}"
        return self.process.exitcode

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.join(PATIENCE)
        os.close(self.keyboard)
        os.close(self.terminal)

    def _read(self) -> bool:
        """Add what has been printed, if anything comes within a second, to the screen; False after the end."""
        if select.select([self.keyboard], [], [], 1)[0]:
            self.printed += os.read(self.keyboard, 65536)
            text = self.printed.decode("utf-8", "ignore")
            self.screen = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]|\r", "", text)
            return True
        return self.process.is_alive()


@pytest.fixture
def terminal():
    opened = []

    def start(*argv: str, **options) -> Terminal:
        opened.append(Terminal(*map(str, argv), **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def _in_terminal(argv: list[str], name: str, term: str, has_readline: bool) -> None:
    """In the new process: make the terminal its own, and become the program."""
    os.environ["TERM"] = term
    if not has_readline:
        sys.modules["readline"] = None
    os.setsid()
    descriptor = os.open(name, os.O_RDWR)  # the first terminal that a session opens is its own: Ctrl-C goes there
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", 24, 2000, 0, 0))  # wide: no line is wrapped
    _become_chat(argv, descriptor, descriptor, descriptor)


def _become_chat(argv: list[str], *descriptors: int) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    sys.argv = ["chat", *argv]
    runpy.run_path(str(REPOSITORY / "recipes" / "chat.py"), run_name="__main__")


def test_a_conversation_in_a_terminal(terminal, talker_dir):
    """Calls are shown, the model remembers until it is told to forget, and mistakes end nothing."""
    chat = terminal("--model", talker_dir)
    chat.wait_for("> ")
    assert chat.ask("How much is 12*4?") == CALCULATION
    chat.ask("/clear")
    assert chat.ask("Greet the world.") == SCRIPTS
    chat.ask("/clear")
    assert chat.ask("I am Bo.") == "Hello, Bo."
    assert chat.ask("Who am I?") == "You are Bo."
    chat.ask("/clear")
    assert chat.ask("Who am I?") == "I do not know."
    assert chat.ask("word " * 200).startswith("(the prompt has ")
    assert chat.ask(" ") == ""
    assert "/system TEXT" in chat.ask("/help")
    assert "/nonsense is not known" in chat.ask("/nonsense")
    chat.type("/quit\n")
    assert chat.end() == 0
    assert chat.screen.endswith("Bye.\n")
    assert "Traceback" not in chat.screen


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, endless_dir):
    chat = terminal("--model", endless_dir, "--max_new_tokens", 10**6)
    chat.wait_for("> ")
    chat.type("Go\n")
    chat.wait_for("aaaa")
    chat.type("\x03")
    chat.wait_for(" (stopped)\n> ")
    chat.wait_for_sleep()
    chat.type("\x03")
    chat.wait_for("(press Ctrl-C again, or /quit, to leave)\n> ")
    chat.type("Go\n")  # the conversation is still there
    chat.wait_for("aaaa")
    chat.type("\x03\x03")  # pressed twice by a hasty hand: it stops, and nothing is lost
    chat.wait_for(" (stopped)\n")
    chat.wait_for("> ")
    chat.type("/help\n")
    chat.wait_for("stays in the conversation.\n> ")
    chat.wait_for_sleep()
    chat.type("half a question")
    chat.wait_for("half a question")
    chat.wait_for_sleep()
    chat.type("\x03")  # discards it, and is no step towards leaving
    chat.wait_for("\n> ")
    for answer in ("(press Ctrl-C again, or /quit, to leave)\n> ", "\nBye.\n"):
        chat.wait_for_sleep()
        chat.type("\x03")
        chat.wait_for(answer)
    assert chat.end() == 0
    assert chat.screen.endswith("(press Ctrl-C again, or /quit, to leave)\n> \nBye.\n")
    assert "Traceback" not in chat.screen


@pytest.mark.parametrize(
    ("term", "has_readline", "marked"),
    [("xterm", True, True), ("dumb", True, False), ("xterm", False, True)],
    ids=["readline", "unmarked", "no readline"],
)
def test_a_pasted_text_is_one_question(terminal, talker_dir, term, has_readline, marked):
    chat = terminal("--model", talker_dir, term=term, has_readline=has_readline)
    chat.wait_for("> ")
    chat.wait_for_sleep()
    pasted = "I am Bo.\rGreet the world.\rWho am I?"
    chat.type(f"\x1b[200~{pasted}\x1b[201~" if marked else pasted)
    chat.wait_for("Who am I?")
    chat.wait_for_sleep()
    chat.type("\r")
    chat.wait_for("\n> ")
    chat.type("/quit\r")
    assert chat.end() == 0
    prompts = re.findall(r"^> ", chat.screen, re.MULTILINE)
    assert len(prompts) == 2, chat.screen


def test_each_line_of_a_pipe_is_a_question(talker_dir, tmp_path):
    code, stdout, _ = piped(["--model", talker_dir], tmp_path, "I am Bo.\nWho am I?\n")
    assert code == 0 and "> Hello, Bo.\n> You are Bo.\n> " in stdout


def test_ctrl_d_ends(terminal, endless_dir):
    chat = terminal("--model", endless_dir)
    chat.wait_for("> ")
    chat.type("\x04")
    assert chat.end() == 0
    assert chat.screen.endswith("Bye.\n")


# One answer


def piped(argv: list, tmp_path: Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program."""
    paths = [tmp_path / name for name in ("in", "out", "err")]
    for path, text in zip(paths, (stdin, "", ""), strict=True):
        path.write_text(text)
    process = _server().Process(target=_in_pipe, args=([str(word) for word in argv], paths))
    process.start()
    process.join(PATIENCE)
    process.kill()
    return process.exitcode, paths[1].read_text("utf-8"), paths[2].read_text("utf-8")


def _in_pipe(argv: list[str], paths: list[Path]) -> None:
    _become_chat(argv, *(os.open(path, os.O_RDWR) for path in paths))


def test_one_answer_is_all_that_stdout_gets(talker_dir, tmp_path):
    code, stdout, stderr = piped(["--model", talker_dir, "--prompt", "How much is 12*4?"], tmp_path)
    assert (code, stdout, stderr) == (0, "Let me see: It is 48.\n", "")


def test_what_breaks_an_answer_off_is_said_and_the_conversation_goes_on(talker, capsys):
    class Breaking(Chat):
        def stream(self, sampling, stop):
            yield Text("The answer is\x1b[31m")
            raise RuntimeError("out of luck")

    conversation = Breaking(*talker, Sampling(), None)
    conversation.answer_or_report("Hello?")
    printed = capsys.readouterr()
    said = "(the answer broke off by RuntimeError; the conversation before it is kept)\n"
    assert printed.out == f"The answer is[31m\n{said}"
    assert printed.err.startswith("Traceback") and printed.err.endswith("RuntimeError: out of luck\n")
    assert conversation.history == []


def test_a_mistake_is_one_line_on_stderr(talker_dir, tmp_path):
    code, stdout, stderr = piped(["--model", talker_dir, "--prompt", "word " * 200], tmp_path)
    assert (code, stdout) == (2, "")
    assert re.fullmatch(r"chat: the prompt has \d+ tokens and the model's context only \d+: shorten it\.\n", stderr)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "Hi", "temperature": -1.0}, "temperature must be"),
        ({"prompt": "Hi", "model": "/no/such/model"}, "no such directory"),
    ],
    ids=str,
)
def test_impossible_flags_are_input_errors(talker_dir, flags, message):
    with pytest.raises(InputError, match=message):
        chat(ChatArguments(**{"model": str(talker_dir), **flags}))


def test_a_base_model_is_told_apart(talker, tmp_path):
    model, tokenizer = talker
    save(model, tokenizer, tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        chat(ChatArguments(model=str(tmp_path), prompt="Hi"))


# What the model sees


@pytest.fixture
def conversation(talker) -> Chat:
    return Chat(*talker, Sampling(max_new_tokens=32), system=None)


def answered(conversation: Chat, text: str) -> str:
    with redirect_stdout(io.StringIO()) as screen:
        conversation.answer(text, show_calls=True)
    return screen.getvalue()


def test_the_history_keeps_calls_and_results(conversation):
    question = "How much is 12*4?"
    assert answered(conversation, question) == CALCULATION
    assert conversation.history == [user(question), *KNOWN[question]]


def test_a_history_beyond_the_context_loses_its_oldest_questions(conversation):
    screens = [answered(conversation, f"Who am I? {number}") for number in range(12)]
    dropped = [screen for screen in screens if screen.startswith("(the oldest ")]
    assert dropped and "the model's context is" in dropped[0]
    asked = [message["content"] for message in conversation.history if message["role"] == "user"]
    assert asked == [f"Who am I? {number}" for number in range(12)][-len(asked) :]
    assert 1 <= len(asked) < 12


def test_a_question_that_cannot_be_answered_is_not_kept(conversation):
    answered(conversation, "I am Bo.")
    before = list(conversation.history)
    with pytest.raises(InputError):
        answered(conversation, "word " * 200)
    assert conversation.history == before


def test_system_instructions_come_first_and_survive_clear(conversation, capsys):
    conversation.run_command("/system Be brief.")
    answered(conversation, "I am Bo.")
    conversation.run_command("/clear")
    assert conversation.messages() == [{"role": "system", "content": "Be brief."}]
    conversation.run_command("/system")
    assert conversation.messages() == []
    assert conversation.run_command("/help") and not conversation.run_command("/quit")
