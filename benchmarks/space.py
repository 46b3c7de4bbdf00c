"""Latency, throughput and load test of the chat page: `python -m benchmarks.space [--model DIR]`.

The page is served as in a Space, by `space/app.py` in its own process.

- First token: from pressing the button to the first words on the page in a real browser (Chromium).
- Streaming: a whole answer through the page against plain `generate` of the same model, in turns.
- Load: many chats that ask without a pause. Each must be shown the same answers as when it asks alone; the server's
  memory is recorded.

Without a model, a model of the cpu preset's size with random weights is used, which never ends an answer by itself.
"""

import json
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.run_directory import CONFIG


@dataclass
class BenchmarkArguments(Arguments):
    """What to measure."""

    model: str | None = flag(None, "directory of a chat model (default: random weights)", path=True)
    new_tokens: int = flag(160, "of a streamed answer, at most", least=1)
    repeats: int = flag(9, "answers measured of each kind", least=1)
    chats: int = flag(20, "of the crowd", least=1, most=1024)
    seconds: float = flag(120, "how long the crowd asks", above=0)
    crowd_tokens: int = flag(32, "of an answer in the crowd, at most", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.space", BenchmarkArguments)

import httpx
import psutil
import torch
from gradio_client.utils import apply_diff
from playwright.sync_api import sync_playwright
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.twins import VOCABULARY, build_twins
from recipes.data.corpora import open_corpus
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_prompt

APP = Path(__file__).parents[1] / "space" / "app.py"
PATIENCE = 120  # seconds
QUESTION = "What is the capital of France?"
FIRST_WORDS = """async () => {
  const written = document.querySelector('#chat').getElementsByClassName('bot');
  const words = () => [...written].some((each) => each.innerText.trim());
  const before = performance.now();
  document.querySelector('#message .submit-button').click();
  await new Promise((shown) => new MutationObserver(() => words() && shown())
    .observe(document.querySelector('#chat'), { childList: true, subtree: true, characterData: true }));
  return performance.now() - before;
}"""


class Chat:
    """A visitor's tab. Speaks HTTP as the page's own script does: gradio's protocol `sse_v3`, not its client API."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)
        dependencies = self.http.get("/config").json()["dependencies"]
        self.functions = {each["api_name"]: each["id"] for each in dependencies}
        self.session = secrets.token_hex(6)
        self.shown: list[dict] = []
        self.figures = ""

    def ask(self, question: str, max_new_tokens: int) -> None:
        """Ask with greedy decoding, and wait for the answer. Raises `RuntimeError` if there is none."""
        self.shown, _, self.figures, turn = list(self.call("send", [self.shown, question, self.figures]))[-1]
        controls = ["", 0, 0, 1, max_new_tokens, ""]
        updates = list(self.call("answer", [turn, self.shown, *controls]))
        self.shown, self.figures = updates[-1]
        if self.shown[-1]["role"] != "assistant" or not self.figures:
            raise RuntimeError(f"no answer to {question!r}")

    def tokens(self) -> int:
        """Length of the last answer in tokens."""
        return int(self.figures.split(" token")[0].split()[-1].replace(",", ""))

    def call(self, function: str, data: list[Any]) -> Iterator[list[Any]]:
        """Trigger an event of the page, and yield its outputs each time they change."""
        body = {"data": data, "fn_index": self.functions[function], "session_hash": self.session}
        event = self.http.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]
        outputs: list[Any] | None = None
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as response:
            for line in response.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("event_id") != event:
                    continue
                if message["msg"] == "process_generating":  # after the first message, only the changes
                    new = message["output"]["data"]
                    outputs = (
                        new if outputs is None else [apply_diff(*each) for each in zip(outputs, new, strict=True)]
                    )
                    yield outputs
                elif message["msg"] == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"{function} failed: {message['output']}")
                    yield message["output"]["data"]
                    return


def main(args: BenchmarkArguments) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = args.model or save_random_model(Path(directory))
        if not Path(model, CONFIG).is_file():
            raise InputError(f"{model} holds no model: give a trained model's directory.")
        with served(model) as (url, server):
            print(f"{model if args.model else 'random weights'}, {torch.get_num_threads()} threads")
            report_first_words(url, args)
            report_streaming(url, model, args)
            report_crowd(url, server, args)


def save_random_model(directory: Path) -> str:
    """Save a model of the cpu preset's size, whose answers never end, and its tokenizer. Returns the directory."""
    tokenizer = train_tokenizer((row["text"] for row in open_corpus("primer").train), VOCABULARY)
    ours, _ = build_twins(tokenizer)
    ours.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@contextmanager
def served(model: str) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the page, and yield its URL and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = psutil.Popen(
        [sys.executable, str(APP), "--model", model, "--port", str(port)], stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_up(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise InputError("the page does not start: see above.")
            time.sleep(0.2)
        yield url, process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
        process.wait()


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def report_first_words(url: str, args: BenchmarkArguments) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("first words: not measured, there is no Chromium")
        return
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(args.repeats + 1):  # the first turn warms up
            page = browser.new_page()
            page.goto(url)
            page.locator("#message textarea").fill(QUESTION)
            page.wait_for_timeout(1000)  # as a person would take to write it
            times.append(page.evaluate(FIRST_WORDS))
            page.locator("#figures").get_by_text("token").wait_for(timeout=PATIENCE * 1000)
            page.close()
        browser.close()
    print(f"first words on the page after {statistics.median(times[1:]):.0f} ms (most: {max(times[1:]):.0f} ms)")


def report_streaming(url: str, directory: str, args: BenchmarkArguments) -> None:
    """Measure a whole answer, and the same without its first token, through the page and by plain `generate`."""
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory).eval()
    prompt = torch.tensor([encode_prompt(tokenizer, [{"role": "user", "content": QUESTION}])])
    seconds: dict[tuple[str, int], list[float]] = {}
    for turn in range(args.repeats + 1):
        for tokens in (1, args.new_tokens):
            before = time.perf_counter()
            ids = model.generate(prompt, max_new_tokens=tokens, do_sample=False)[0, prompt.size(1) :]
            plain = time.perf_counter() - before
            written = len(ids) - (ids[-1].item() in tokenizer.all_special_ids)
            chat = Chat(url)
            before = time.perf_counter()
            chat.ask(QUESTION, tokens)
            page = time.perf_counter() - before
            if chat.tokens() != written:
                raise InputError(
                    f"the page wrote {chat.tokens()} tokens, generate {written}: a model that calls tools?"
                )
            if turn:  # the first turn warms up
                seconds.setdefault(("page", tokens), []).append(page)
                seconds.setdefault(("plain", tokens), []).append(plain)
    (page_1, page), (plain_1, plain) = (
        [1000 * statistics.median(seconds[side, tokens]) for tokens in (1, args.new_tokens)]
        for side in ("page", "plain")
    )
    whole = f"{written} tokens through the page in {page:.0f} ms, by plain generate in {plain:.0f} ms"
    print(f"{whole}: {page / plain:.2f} x")
    print(
        f"without what the first token takes: {page - page_1:.0f} and {plain - plain_1:.0f} ms, "
        f"{(page - page_1) / (plain - plain_1):.2f} x"
    )


def report_crowd(url: str, server: psutil.Process, args: BenchmarkArguments) -> None:
    expected = [ask_both(Chat(url), number, args) for number in range(args.chats)]
    waits: list[float] = []
    faults: list[str] = []
    ended = threading.Event()

    def talk(number: int) -> None:
        chat = Chat(url)
        while not ended.is_set():
            before = time.perf_counter()
            try:
                shown = ask_both(chat, number, args)
            except (RuntimeError, httpx.HTTPError) as error:
                faults.append(f"lost: {error}")
                continue
            waits.append((time.perf_counter() - before) / 2)
            if shown != expected[number]:
                faults.append(f"mixed: {number} was shown {shown}")

    crowd = [threading.Thread(target=talk, args=(number,)) for number in range(args.chats)]
    memory = []
    for each in crowd:
        each.start()
    deadline = time.monotonic() + args.seconds
    while time.monotonic() < deadline:
        time.sleep(min(2, args.seconds / 10))
        memory.append(server.memory_info().rss / 2**20)
    ended.set()
    for each in crowd:
        each.join()
    for fault in faults[:5]:
        print(fault)
    print(
        f"{args.chats} chats for {args.seconds:.0f} s: {2 * len(waits)} answers, {len(faults)} lost or mixed, "
        f"an answer in {statistics.median(waits):.1f} s (most: {max(waits):.1f} s)"
    )
    early, late = memory[len(memory) // 5], memory[-1]
    print(f"the server's memory: {early:.0f} MB after a fifth of the time, {late:.0f} MB in the end")


def ask_both(chat: Chat, number: int, args: BenchmarkArguments) -> list[dict]:
    """Ask two questions that are unique to this chat, and return the conversation that is shown."""
    chat.shown = []
    chat.ask(f"I am visitor {number}.", args.crowd_tokens)
    chat.ask(f"How much is {number} + {number * number}?", args.crowd_tokens)
    return chat.shown


if __name__ == "__main__":
    exit_on_input_error("benchmarks.space", lambda: main(ARGS))
