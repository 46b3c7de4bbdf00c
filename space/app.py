"""A chat page for a model: `python space/app.py --model DIR`, or a Space whose variable MODEL_ID names it.

On the Hub there is nothing of the project but this directory and what manifest.py lists.
"""

import os
import sys
from argparse import ArgumentParser, Namespace  # recipes.arguments needs TRL, which a Space has no use for
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # on ZeroGPU, before anything that knows of GPUs
    import spaces  # noqa: F401

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
HERE = Path(__file__).resolve().parent
if not (HERE / "recipes").is_dir():  # in a checkout, what the Space gets a copy of lies beside it
    sys.path.append(str(HERE.parent))

from transformers.utils import logging  # noqa: E402

from chat_page.engine import Engine  # noqa: E402
from chat_page.page import serve  # noqa: E402
from recipes.errors import InputError, exit_on_input_error  # noqa: E402


def parse_arguments() -> Namespace:
    parser = ArgumentParser(description="A chat page for a model.")
    parser.add_argument("--model", default=os.environ.get("MODEL_ID"), help="directory or Hub id of a chat model")
    parser.add_argument(
        "--base_model",
        default=os.environ.get("BASE_MODEL_ID"),
        help="of the model that continues texts (default: the chat model)",
    )
    parser.add_argument("--port", type=int, default=None, help="of the server (default: 7860 or the next free one)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if not args.model:
        raise InputError("no model: give --model DIR, or set MODEL_ID to a model's name on the Hub.")
    logging.set_verbosity_error()
    chat = Engine(args.model)
    base = Engine(args.base_model, chat=False) if args.base_model else chat
    for engine in {chat, base}:
        engine.start()
    serve(chat, base, args.port)


if __name__ == "__main__":
    exit_on_input_error("app", main)
