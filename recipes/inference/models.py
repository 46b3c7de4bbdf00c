"""Load a model for inference, and find where an evaluation writes its results."""

import os
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.utils.errors import InputError
from recipes.utils.hardware import has_bf16
from recipes.utils.loading import check_source, load_tokenizer, load_weights
from recipes.utils.outputs import ensure_writable
from recipes.utils.run_directory import EVALS
from tokenizer.chat import check_chat_template


def load_model(
    name: str, device: torch.device | str | None = None, chat: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer from a directory or the Hub to `device` (default: the accelerator if there is one).

    The model is in evaluation mode, in bf16 on an accelerator that supports it, else in fp32. Raises `InputError` if
    they cannot be loaded, or with `chat` if the tokenizer has no chat template.
    """
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    device = torch.device(device)
    check_source(name)
    tokenizer = load_tokenizer(name)
    if chat:
        check_chat_template(tokenizer)  # before loading the weights, which takes longer
    dtype = torch.bfloat16 if device.type != "cpu" and has_bf16(device) else torch.float32
    return load_weights(name, tokenizer, dtype=dtype).to(device).eval(), tokenizer


load_chat_model = partial(load_model, chat=True)


def results_file(model: str, name: str, output: str | None) -> Path | None:
    """Path of an evaluation's results: `output`, or evals/`name` in the model's directory.

    None by default for a model on the Hub. Raises `InputError`, before any work is done, if the path cannot be written
    or the directory holds no model.
    """
    is_here = Path(model).is_dir()
    if is_here:
        check_source(model)
    if output is None and not is_here:
        return None
    return check_output(output or Path(model, EVALS, name))


def check_output(output: str | Path) -> Path:
    """The path of a results file. Raises `InputError` if it cannot be written."""
    path = Path(output)
    if os.path.exists(path) and not path.is_file():  # a device such as /dev/null would be replaced
        raise InputError(f"cannot write to {path}, which is not a file: choose another --output.")
    ensure_writable(path.parent, str(path))
    return path


def check_distinct(models: list[str]) -> None:
    """Raise `InputError` if a model is given twice, which would be compared with itself."""
    seen = set()
    for model in models:
        place = os.path.realpath(model) if os.path.exists(model) else model
        if place in seen:
            raise InputError(f"model {model} is given twice: give each --model once.")
        seen.add(place)
