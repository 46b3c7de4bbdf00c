"""Load models and tokenizers from a directory or the Hub, for every program that runs or trains them.

What cannot be loaded raises an `InputError` of one line: for a wrong path, with the path that was probably meant; for
a damaged file, for weights that do not match the config, for a tokenizer of another model. Code in a checkpoint is not
run: NanochatGPT's is imported from here, and other models need none.

`called` is the name of the source in messages, if that is not its path.
"""

import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
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
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.hub import check_hub_reachable, explain_refusal
from recipes.utils.misfit import describe_misfit
from recipes.utils.run_directory import CONFIG, FILES, TOKENIZER, explain_path, parent, siblings, suggest_path

if TYPE_CHECKING:  # importing it takes 2 s, which loading a tokenizer or a configuration does not need
    from transformers import PreTrainedModel

# Key of a transformers warning, which we suppress: our callers handle texts that do not fit into the context.
TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
LARGEST_SIZES = {  # plausible sizes in a configuration; larger ones are typing errors
    "vocab_size": 2**24, "hidden_size": 2**20, "num_hidden_layers": 1000, "num_attention_heads": 2**20,
    "max_position_embeddings": 2**30, "n_embd": 2**20, "n_layer": 1000, "n_head": 2**20, "n_positions": 2**30,
}  # fmt: skip
# How a tokenizer was loaded: transformers notes it in the tokenizer, and would save it with it.
ABOUT_THIS_MACHINE = ("is_local", "local_files_only")
TOKENIZER_CONFIG = "tokenizer_config.json"
PICKLED = {".bin", ".pt", ".pth", ".pkl"}  # written by torch, as zip archives
VOCABULARIES = {TOKENIZER, "vocab.json", "vocab.txt"}  # a tokenizer of transformers has one of these files,
VOCABULARY_SUFFIXES = {".model", ".tiktoken"}  # or a file with one of these suffixes


def check_source(name: str, what: str = "model", called: str | None = None) -> None:
    """Raise `InputError` early if `name` is a path without a `what`, or a Hub id while the Hub cannot be reached."""
    path, called = Path(name), called or name
    if path.is_dir():
        if not (path / FILES[what]).is_file():
            raise InputError(f"{what} directory {called} holds no {FILES[what]}{explain_path(path, what)}.")
        for weights in sorted(path.glob("*.safetensors")) if what == "model" else []:
            if damage := unreadable(weights):
                raise InputError(f"{what} {called} is damaged: {weights.name} is not whole ({damage}).")
        return
    if path.exists():
        above = [parent(path)] if (parent(path) / FILES[what]).is_file() else []
        raise InputError(f"{what} {called} is a file{suggest_path('its directory', above)}.")
    if names_a_path(name):
        raise InputError(
            f"{what} {called}: no such directory{suggest_path('one that is there', siblings(path, what))}."
        )
    if not constants.HF_HUB_OFFLINE:  # offline, the libraries look into the cache only, which is fast
        check_hub_reachable(
            f"{what} {called} is not a local directory. Give one, or set HF_HUB_OFFLINE=1 to use the cache."
        )


def names_a_path(name: str) -> bool:
    """Whether `name` is meant as a local path, even if nothing is there, and not as a user/name on the Hub."""
    path = Path(name)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.endswith(".json"):
        return True
    user_is_a_run = "/" in name and bool(siblings(path, "model"))  # the part before / is a run or a directory of runs
    return name.count("/") > 1 or user_is_a_run


def load_config(name: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the configuration of a model, or from a file of any name."""
    if not Path(name).is_file():
        check_source(name)
    try:
        values, _ = PretrainedConfig.get_config_dict(name)
        if not isinstance(values, dict):
            raise ValueError("its JSON is not an object.")
        check_sizes(values, name)  # first, because the errors of config classes about wrong types are hard to read
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except InputError:
        raise
    except Exception as error:  # values of a wrong type raise anything
        if refusal := explain_refusal(error, name):
            raise InputError(refusal) from None
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
    """Load a tokenizer from its own directory or a model's; `options` are passed to `AutoTokenizer`."""
    path = Path(name)
    if not (path.is_dir() and has_vocabulary(path)):
        check_source(name, "tokenizer", called)
    with as_input_error(f"tokenizer {called or name}", name):
        tokenizer = AutoTokenizer.from_pretrained(name, **{"trust_remote_code": False, **options})
    tokenizer.deprecation_warnings[TOO_LONG] = True
    for key in ABOUT_THIS_MACHINE:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def load_weights(
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    called: str | None = None,
    **options: Any,
) -> "PreTrainedModel":
    """Load the causal LM in `name`; `options` are passed to `AutoModelForCausalLM`.

    Checks that the model has an embedding for every token of `tokenizer`, unless it is None. Raises `InputError` also
    for weights that the model lacks, does not use, or has in other sizes: figures would be those of another model.
    """
    check_source(name, called=called)
    disable_progress_bar()
    with as_input_error(f"model {called or name}", name), without_report():
        options = {"trust_remote_code": False, **options}
        model, report = AutoModelForCausalLM.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    if misfit := describe_misfit(model, report):
        raise InputError(f"the weights in {called or name} are not those of its {CONFIG}: {misfit}.")
    if tokenizer is not None:
        check_vocabulary(tokenizer, model.get_input_embeddings().weight.size(0), called or name)
    return model


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, called: str) -> None:
    """Raise `InputError` if the tokenizer has ids beyond the `rows` of the embedding."""
    size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if size > rows:
        raise InputError(
            f"the tokenizer of {called} has {size:,} tokens and the model only {rows:,}: it belongs to another model."
        )


def has_vocabulary(directory: Path) -> bool:
    """Whether `directory` holds a file that a tokenizer can be loaded from."""
    if any(path.name in VOCABULARIES or path.suffix in VOCABULARY_SUFFIXES for path in directory.iterdir()):
        return True
    try:  # a tokenizer of bytes (ByT5) needs no vocabulary
        name = json.loads((directory / TOKENIZER_CONFIG).read_bytes())["tokenizer_class"]
        return getattr(transformers, name).vocab_files_names == {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return False


def unreadable(path: Path) -> str | None:
    """Why a file is not valid by a quick check (truncated, empty, another format); None if it passes."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass  # opening reads the header, and compares it with the length of the file
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in PICKLED and not zipfile.is_zipfile(path):
            return "incomplete"
    except (OSError, ValueError, SafetensorError) as error:
        return in_one_line(error)
    return None


@contextmanager
def as_input_error(what: str, repo: str) -> Iterator[None]:
    """Turn whatever a library raises while loading `what`, from a directory or the Hub, into an `InputError`."""
    try:
        yield
    except Exception as error:  # damaged files raise anything; `tokenizers` raises a bare Exception
        message = explain_refusal(error, repo) or f"{what} cannot be loaded: {in_one_line(error)}"
        raise InputError(message) from None


@contextmanager
def without_report() -> Iterator[None]:
    """Keep transformers from logging its table of weights that do not fit: we say it in one line."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_no_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(is_no_report)
