"""Serve a model over the OpenAI API: `python -m recipes.serve --model runs/NAME/grpo`.

This is `transformers serve` with NanochatGPT's class registered: by itself it looks up classes in transformers only,
and never loads one from a checkpoint. Requests are checked, the model's context is enforced, and errors have OpenAI's
format (recipes/inference/openai_api.py). A checkpoint converted by `python -m recipes.convert --to nanochat` can be
served by plain `transformers serve DIR`, without these.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class ServeArguments(Arguments):
    """Flags of `python -m recipes.serve`."""

    model: str = flag(REQUIRED, "directory or Hub id of a chat model", path=True)
    host: str = flag("localhost", "address to listen at; 0.0.0.0 lets other machines in")
    port: int = flag(8000, "port to listen at", least=1, most=65535)
    device: str = flag("auto", "auto, cpu, cuda:0, ...")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("serve", ServeArguments)

from transformers.utils.import_utils import is_serve_available
from transformers.utils.logging import disable_progress_bar

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.utils.loading import check_vocabulary, load_config, load_tokenizer
from recipes.utils.run_directory import read_documents_only
from tokenizer.chat import check_chat_template


def main(args: ServeArguments) -> None:
    if not is_serve_available():
        raise InputError("fastapi, uvicorn and openai are missing: pip install -c constraints.txt -e '.[serve]'.")
    check_servable(args.model)
    check_free(args.host, args.port)
    from transformers.cli.serve import Serve
    from transformers.cli.serving import model_manager

    from recipes.inference.openai_api import complete_transformers_serve

    # The module in which the server looks up classes; `import transformers` here may give another module object.
    model_manager.transformers.NanochatGPTForCausalLM = NanochatGPTForCausalLM
    complete_transformers_serve(args.model)
    disable_progress_bar()
    print(f"serving {args.model} at http://{args.host}:{args.port}/v1; Ctrl-C ends it", flush=True)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after shutting down
        Serve(force_model=args.model, host=args.host, port=args.port, device=args.device)


def check_servable(model: str) -> None:
    """Raise `InputError` for a model that cannot be loaded or cannot chat, which the server reports by a traceback."""
    config = load_config(model)
    tokenizer = load_tokenizer(model)
    check_chat_template(tokenizer)
    check_vocabulary(tokenizer, config.get_text_config().vocab_size, model)
    if read_documents_only(model):
        print(f"note: {model} was trained on documents only. Ask it for /v1/completions; it has not learnt to chat.")


def check_free(host: str, port: int) -> None:
    """Raise `InputError` if the server could not listen at this address."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen at {host}:{port} ({error}): choose another --port.") from None


if __name__ == "__main__":
    exit_on_input_error("serve", lambda: main(ARGS))
