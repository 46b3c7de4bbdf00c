"""The model behind the page: loaded once for all visitors, tried again while the Hub does not give it."""

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
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

import modeling_nanochat  # noqa: F401  (registers NanochatGPT with transformers' Auto classes)
from recipes.errors import InputError
from recipes.inference.generate import Event, Sampling, context_length, stream_completion, stream_reply
from tokenizer.chat import Message, check_chat_template

from .limits import MAX_SECONDS

try:
    import spaces
except ImportError:  # on the Hub's machines only
    spaces = None

PAUSES = (2, 5, 10, 30, 60)  # seconds before each further attempt; the last one for ever
FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]  # never code, never pickles


class Engine:
    """A model that chats or continues text, once it has been loaded."""

    def __init__(self, source: str, chat: bool = True) -> None:
        self.source = source  # directory or Hub id
        self.chat = chat
        self.model: PreTrainedModel | None = None
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.trouble = ""  # why it is not there yet
        self.next_attempt = 0.0  # time.monotonic()
        # On ZeroGPU there is a GPU only within functions wrapped so, which run in a process of their own.
        self.zero = spaces is not None and bool(os.environ.get("SPACES_ZERO_GPU"))
        self.write = spaces.GPU(duration=MAX_SECONDS)(self._write) if spaces is not None else self._write

    @property
    def ready(self) -> bool:
        return self.model is not None

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return context_length(self.model)

    def start(self) -> None:
        """Load a directory now; a model of the Hub in the background, for as long as it takes.

        Raises `InputError` for a directory that holds no such model.
        """
        if Path(self.source).is_dir():
            self.load()
        elif self.source.count("/") > 1 or self.source.startswith((".", "/", "~")):
            raise InputError(f"there is no directory {self.source}: give a trained model's.")
        else:
            threading.Thread(target=self._keep_trying, name="loading", daemon=True).start()

    def load(self) -> None:
        """Load the model. Raises `InputError` if it cannot be had."""
        directory = self.source if Path(self.source).is_dir() else fetch(self.source)
        model, tokenizer = load(directory, self.source, self.chat)
        self.tokenizer = tokenizer
        self.model = model if self.zero else model.to(device())
        self.trouble = ""

    def stream(self, prompt: Sequence[Message] | str, sampling: Sampling, stop: threading.Event) -> Iterator[Event]:
        """Events of the reply to a conversation, or of the continuation of a text."""
        if self.zero:  # `stop` cannot go into another process
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
    """Events until `stop` is set; whoever makes them is told by closing the iterator."""
    with closing(events):
        for event in events:
            yield event
            if stop.is_set():
                return


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def fetch(model_id: str) -> str:
    """Directory with the files of a model of the Hub. Raises `InputError` if the Hub does not give them."""
    try:
        return snapshot_download(model_id, allow_patterns=FILES, ignore_patterns=["*/*"])
    except (RepositoryNotFoundError, HFValidationError):  # gated ones included
        raise InputError(f"There is no model {model_id} on the Hub that this page may read.") from None
    except Exception as error:  # anything that a network can do
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        raise InputError(f"The Hub does not answer, and {model_id} has to come from there.") from None


def load(directory: str, name: str, chat: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer in `directory`; code in it is not run. Raises `InputError` if they cannot be used."""
    disable_progress_bar()
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        if chat:
            check_chat_template(tokenizer)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise InputError(f"The model {name} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"The tokenizer of {name} has {len(tokenizer):,} tokens, and the model only "
            f"{model.get_input_embeddings().num_embeddings:,}: they do not belong together."
        )
    return model.eval(), tokenizer
