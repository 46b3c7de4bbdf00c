"""Serve a chat page for a model: `python space/app.py --model DIR`, or a Space whose variable MODEL_ID names it.

A Space on the Hub holds this directory and the project's code that it imports, and nothing else of the project.
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not (HERE / "recipes").is_dir():  # in a checkout, the code that a Space gets a copy of is one level up
    sys.path.append(str(HERE.parent))

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class AppArguments(Arguments):
    """Flags of `python space/app.py`. On the Hub, variables of the Space name the models."""

    model: str | None = flag(os.environ.get("MODEL_ID"), "directory or Hub id of a chat model", path=True)
    base_model: str | None = flag(
        os.environ.get("BASE_MODEL_ID"), "of the model that continues texts (default: the chat model)", path=True
    )
    port: int | None = flag(None, "of the server (default: 7860 or the next free one)", least=1, most=65535)


if __name__ == "__main__":  # before torch and gradio are imported, which takes seconds
    ARGS = read_command_line("app", AppArguments)

with suppress(ImportError):  # on ZeroGPU, before anything that uses CUDA
    import spaces  # noqa: F401

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from transformers.utils import logging

from chat_page.engine import Engine
from chat_page.page import serve


def main(args: AppArguments) -> None:
    if not args.model:
        raise InputError("no model: give --model DIR, or set MODEL_ID to a model's name on the Hub.")
    logging.set_verbosity_error()
    chat = Engine(args.model)
    base = Engine(args.base_model, chat=False) if args.base_model else chat
    for engine in {chat, base}:
        engine.start()
    serve(chat, base, args.port)


if __name__ == "__main__":
    exit_on_input_error("app", lambda: main(ARGS))
