"""Models and tokenizers from a directory or the Hub: the one place that loads them.

What cannot be loaded is an `InputError` of one line: a path that holds something else, and which one was meant; a
damaged file; weights that are not those of the config; a tokenizer that belongs to another model. Code that a
checkpoint brings along is not run: NanochatGPT's is here, other models need none.

`called` is what messages call the source, where that is not its path.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

import modeling_nanochat  # noqa: F401  (registers NanochatGPT with transformers' Auto classes)
from recipes.utils.errors import InputError
from recipes.utils.hub import check_hub_reachable
from recipes.utils.run_directory import CONFIG, FILES, TOKENIZER, beside, meant, offer, parent

if TYPE_CHECKING:  # importing it takes 2 s, which a tokenizer or a configuration need not wait for
    from transformers import PreTrainedModel

# A warning of transformers, counted as said already: what does not fit into the context is seen to where it matters.
TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
LARGEST_SIZES = {  # that were not mistyped, of a configuration
    "vocab_size": 2**24, "hidden_size": 2**20, "num_hidden_layers": 1000, "num_attention_heads": 2**20,
    "max_position_embeddings": 2**30, "n_embd": 2**20, "n_layer": 1000, "n_head": 2**20, "n_positions": 2**30,
}  # fmt: skip
# What transformers notes in a tokenizer of how it was loaded, and would save with it.
ABOUT_THIS_MACHINE = ("is_local", "local_files_only")
PICKLED = {".bin", ".pt", ".pth", ".pkl"}  # by torch, as zip archives
VOCABULARIES = {TOKENIZER, "vocab.json", "vocab.txt"}  # a tokenizer of transformers has one of these,
VOCABULARY_SUFFIXES = {".model", ".tiktoken"}  # or a file that ends so


def check_source(name: str, what: str = "model", called: str | None = None) -> None:
    """Raise `InputError` early if `name` is a path to no `what`, or a Hub id while the Hub cannot be reached."""
    path, called = Path(name), called or name
    if path.is_dir():
        if not (path / FILES[what]).is_file():
            raise InputError(f"{what} directory {called} holds no {FILES[what]}{meant(path, what)}.")
        for weights in sorted(path.glob("*.safetensors")) if what == "model" else []:
            if damage := unreadable(weights):
                raise InputError(f"{what} {called} is damaged: {weights.name} is not whole ({damage}).")
        return
    if path.exists():
        above = [parent(path)] if (parent(path) / FILES[what]).is_file() else []
        raise InputError(f"{what} {called} is a file{offer('its directory', above)}.")
    if names_a_path(name):
        raise InputError(f"{what} {called}: no such directory{offer('one that is there', beside(path, what))}.")
    if not constants.HF_HUB_OFFLINE:  # offline, what the cache holds is found at once
        check_hub_reachable(
            f"{what} {called} is no directory here. Give a local one, or set HF_HUB_OFFLINE=1 to use the cache."
        )


def names_a_path(name: str) -> bool:
    """Whether `name` is a path here, perhaps to nothing, and no user/name on the Hub, where a model may be as well."""
    path = Path(name)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.endswith(".json"):
        return True
    user_is_a_run = "/" in name and bool(beside(path, "model"))  # or a directory of runs
    return name.count("/") > 1 or user_is_a_run


def load_config(name: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Configuration of a model, or in a file of any name."""
    if not Path(name).is_file():
        check_source(name)
    try:
        values, _ = PretrainedConfig.get_config_dict(name)
        if not isinstance(values, dict):
            raise ValueError("its JSON is not an object.")
        check_sizes(values, name)  # first: what a class makes of a wrong type tells nobody what is wrong
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except InputError:
        raise
    except Exception as error:  # values of a wrong type raise anything
        raise InputError(f"no model configuration in {name}: {in_one_line(error)}") from None


def check_sizes(values: Mapping[str, Any], source: str) -> None:
    """Raise `InputError` for a size in a configuration that is not a whole number within reason."""
    for name, most in LARGEST_SIZES.items():
        value = values.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            raise InputError(f"{source}: {name} is {value!r:.40}, not a whole number from 1 to {most:,}.")


def check_decoder(config: PretrainedConfig, source: str) -> None:
    """Raise `InputError` for the configuration of a model that cannot be a causal LM."""
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"{source} is an encoder-decoder ({config.model_type}): take a causal LM, such as gpt2 or llama."
        )
    for name in ("vocab_size", "hidden_size", "num_hidden_layers"):
        if getattr(config, name, None) is None:
            raise InputError(
                f"{source} is not the configuration of a causal LM ({config.model_type}): it has no {name}."
            )


def load_tokenizer(name: str, called: str | None = None, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a tokenizer's directory or a model's; `options` are those of `AutoTokenizer`."""
    path = Path(name)
    if not (path.is_dir() and has_vocabulary(path)):
        check_source(name, "tokenizer", called)
    with told_in_one_line(f"tokenizer {called or name}"):
        tokenizer = AutoTokenizer.from_pretrained(name, **{"trust_remote_code": False, **options})
    tokenizer.deprecation_warnings[TOO_LONG] = True
    for key in ABOUT_THIS_MACHINE:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def load_weights(
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    called: str | None = None,
    whole: bool = False,
    **options: Any,
) -> "PreTrainedModel":
    """The causal LM in `name`; `options` are those of `AutoModelForCausalLM`.

    A `tokenizer` must be one that the model has embeddings for. With `whole`, nothing in the file may be left over.
    """
    check_source(name, called=called)
    disable_progress_bar()
    with told_in_one_line(f"model {called or name}"):
        options = {"trust_remote_code": False, **options}
        model, report = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options)
    lacking, beyond = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if lacking or (beyond and whole):
        wrong = f"{lacking[0]} is missing" if lacking else f"{beyond[0]} is too much"
        raise InputError(f"the weights in {called or name} are not those of its {CONFIG}: {wrong}.")
    if tokenizer is not None:
        check_vocabulary(tokenizer, model.get_input_embeddings().weight.size(0), called or name)
    return model


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, called: str) -> None:
    """Raise `InputError` if the tokenizer has ids beyond an embedding of so many rows."""
    size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if size > rows:
        raise InputError(
            f"the tokenizer of {called} has {size:,} tokens and the model only {rows:,}: it belongs to another model."
        )


def has_vocabulary(directory: Path) -> bool:
    """Whether there is a file that a tokenizer can be made from."""
    return any(path.name in VOCABULARIES or path.suffix in VOCABULARY_SUFFIXES for path in directory.iterdir())


def unreadable(path: Path) -> str | None:
    """Why a file cannot be what its name says, as far as a glance shows: cut off, empty, something else."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass  # reads the header, and compares it with the length of the file
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in PICKLED and not zipfile.is_zipfile(path):
            return "incomplete"
    except (OSError, ValueError, SafetensorError) as error:
        return in_one_line(error)
    return None


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Whatever a library raises on loading `what`, as an `InputError`."""
    try:
        yield
    except Exception as error:  # a damaged file raises anything, in `tokenizers` no more than a bare Exception
        raise InputError(f"{what} cannot be loaded: {in_one_line(error)}") from None


def in_one_line(error: Exception) -> str:
    """What an error says, at most 200 characters of it."""
    return " ".join(str(error).split())[:200] or type(error).__name__
