"""Load the model once for all visitors, retry while the Hub does not answer, and stream its answers."""

import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.inference.generate import Event, Sampling, context_length, stream_completion, stream_reply
from recipes.utils.errors import InputError
from recipes.utils.loading import check_source, load_tokenizer, load_weights, names_a_path
from recipes.utils.run_directory import check_learnt_to_chat
from tokenizer.chat import Message, check_chat_template

from .limits import MAX_SECONDS

try:
    import spaces
except ImportError:  # on the Hub's machines only
    spaces = None

PAUSES = (2, 5, 10, 30, 60)  # seconds before each retry; the last one repeats
FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]  # never code, never pickles


class Engine:
    """A model that chats or continues text; `ready` once it is loaded."""

    def __init__(self, source: str, chat: bool = True) -> None:
        self.source = source  # directory or Hub id
        self.chat = chat
        self.model: PreTrainedModel | None = None
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.trouble = ""  # why it is not loaded yet
        self.next_attempt = 0.0  # time.monotonic()
        # On ZeroGPU only functions wrapped like this have a GPU; they run in a separate process.
        self.zero = spaces is not None and bool(os.environ.get("SPACES_ZERO_GPU"))
        self.write = spaces.GPU(duration=MAX_SECONDS)(self._write) if spaces is not None else self._write

    @property
    def ready(self) -> bool:
        return self.model is not None

    @property
    def context(self) -> int:
        """Maximum number of tokens of prompt and answer together."""
        return context_length(self.model)

    def start(self) -> None:
        """Load a directory now, or a model of the Hub in the background, with retries.

        Raises `InputError` for a path that is not a directory of such a model.
        """
        if names_a_path(self.source):
            check_source(self.source)
            if self.chat:
                check_learnt_to_chat(self.source)
            self.load()
        else:
            threading.Thread(target=self._keep_trying, name="loading", daemon=True).start()

    def load(self) -> None:
        """Load the model. Raises `InputError` if it cannot be loaded."""
        directory = self.source if Path(self.source).is_dir() else fetch(self.source)
        model, tokenizer = load(directory, self.source, self.chat)
        self.tokenizer = tokenizer
        self.model = model if self.zero else model.to(device())
        self.trouble = ""

    def stream(self, prompt: Sequence[Message] | str, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """Stream the reply to a conversation (messages), or the continuation of a text (str)."""
        if self.zero:  # `stop` cannot be passed to another process
            return until(stop, self.write(prompt, sampling, None))
        return self.write(prompt, sampling, stop)

    def _write(
        self, prompt: Sequence[Message] | str, sampling: Sampling, stop: threading.Event | None
    ) -> Iterator[Event]:
        model = self.model.to(device())
        stream = stream_completion if isinstance(prompt, str) else stream_reply
        yield from stream(model, self.tokenizer, prompt, sampling, stop=stop)

    def _keep_trying(self) -> None:
        attempt = 0
        while not self.ready:
            try:
                self.load()
            except InputError as error:
                self.trouble = str(error)
            except Exception:
                traceback.print_exc()
                self.trouble = f"Something went wrong while {self.source} was loaded."
            if not self.ready:
                pause = PAUSES[min(attempt, len(PAUSES) - 1)]
                print(f"{self.trouble} Trying again in {pause} s.", flush=True)
                self.next_attempt = time.monotonic() + pause
                attempt += 1
                time.sleep(pause)
        print(f"{self.source} is loaded.", flush=True)


def until(stop: threading.Event, events: Iterator[Event]) -> Iterator[Event]:
    """Yield events until `stop` is set, then close the iterator so that generation ends too."""
    with closing(events):
        for event in events:
            yield event
            if stop.is_set():
                return


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def fetch(model_id: str) -> str:
    """Download a model's files from the Hub and return their directory. Raises `InputError` if that fails."""
    try:
        return snapshot_download(model_id, allow_patterns=FILES, ignore_patterns=["*/*"])
    except (RepositoryNotFoundError, HFValidationError):  # gated ones included
        raise InputError(f"There is no model {model_id} on the Hub that this page may read.") from None
    except Exception as error:  # anything that a network can do
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        raise InputError(f"The Hub does not answer, and {model_id} has to come from there.") from None


def load(directory: str, name: str, chat: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer from `directory`. Raises `InputError`, which names `name`, if that fails."""
    tokenizer = load_tokenizer(directory, called=name)
    tokenizer.name_or_path = name
    if chat:
        check_chat_template(tokenizer)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return load_weights(directory, tokenizer, called=name, dtype=dtype).eval(), tokenizer
