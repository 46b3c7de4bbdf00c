"""The model that a program of ours works with, and where what it finds goes."""

import os
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

import modeling_nanochat  # noqa: F401  (registers NanochatGPT with transformers' Auto classes)
from recipes.errors import InputError
from recipes.outputs import ensure_writable
from recipes.training.hardware import has_bf16
from recipes.training.models import check_source
from tokenizer.chat import check_chat_template


def load_model(
    name: str, device: torch.device | str | None = None, chat: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a directory or a Hub id, on `device` (default: the accelerator if there is one).

    In bf16 on an accelerator that has it, in fp32 elsewhere. Raises `InputError` if they cannot be loaded, or with
    `chat` if they cannot chat. Code that a checkpoint brings along is not run: NanochatGPT's is here, other models
    need none.
    """
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    device = torch.device(device)
    check_source(name, "model", "config.json")
    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if chat:
            check_chat_template(tokenizer)  # before the weights, which take longer
        dtype = torch.bfloat16 if device.type != "cpu" and has_bf16(device) else torch.float32
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises anything, in `tokenizers` no more than a bare Exception
        raise InputError(f"model {name} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    return model.to(device).eval(), tokenizer


load_chat_model = partial(load_model, chat=True)


def results_file(model: str, name: str, output: str | None) -> Path | None:
    """Where an evaluation's results go: `output`, or evals/`name` in the model's directory.

    Nowhere by default for a model of the Hub. Raises `InputError` before the work is lost, if they cannot go there.
    """
    if output is None and not Path(model).is_dir():
        return None
    path = Path(output or Path(model, "evals", name))
    if os.path.exists(path) and not path.is_file():  # a device such as /dev/null would be replaced
        raise InputError(f"cannot write to {path}, which is not a file: choose another --output.")
    ensure_writable(path.parent, str(path))
    return path
