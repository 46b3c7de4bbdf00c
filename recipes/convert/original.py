"""karpathy/nanochat's original files, as its 2025 versions write them, to our model and tokenizer."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.convert.encoding import load_encoding
from recipes.convert.native import check_vocabulary
from recipes.errors import InputError
from recipes.training.models import set_special_tokens

WEIGHTS = re.compile(r"model_(\d+)\.pt")
TOKENIZER = "tokenizer.pkl"
# Its code gives F.rms_norm no epsilon, which then is that of fp32, also for bf16.
RMS_NORM_EPS = torch.finfo(torch.float32).eps
# Embedding and head have up to 63 rows more than the vocabulary, which its code cuts off the logits.
ROWS_MULTIPLE = 64
SIZES = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_head": "num_key_value_heads",
    "sequence_len": "max_position_embeddings",
}
NAMES = (
    (r"transformer\.wte\.weight", r"model.embed_tokens.weight"),
    (r"transformer\.h\.(\d+)\.attn\.c_([qkv])\.weight", r"model.layers.\1.self_attn.\2_proj.weight"),
    (r"transformer\.h\.(\d+)\.attn\.c_proj\.weight", r"model.layers.\1.self_attn.o_proj.weight"),
    (r"transformer\.h\.(\d+)\.mlp\.c_fc\.weight", r"model.layers.\1.mlp.fc1.weight"),
    (r"transformer\.h\.(\d+)\.mlp\.c_proj\.weight", r"model.layers.\1.mlp.fc2.weight"),
    (r"lm_head\.weight", r"lm_head.weight"),
)
COMPILED = "_orig_mod."  # in front of each name where a compiled model was saved


def has_original_weights(source: Path) -> bool:
    """Whether `source` is a directory of original weights."""
    return source.is_dir() and any(WEIGHTS.fullmatch(path.name) for path in source.iterdir())


def load_original(
    source: Path, tokenizer: str | None, step: int | None
) -> tuple[NanochatGPTForCausalLM, PreTrainedTokenizerFast]:
    """Our model with the weights of `step` (default: the last one) in `source`, and the tokenizer.

    `tokenizer` is tokenizer.pkl or its directory, by default `source`. Raises `InputError` for anything that does not
    fit, and for the architecture of 2026, which has parameters that ours lacks.
    """
    steps = {int(match[1]): path for path in source.iterdir() if (match := WEIGHTS.fullmatch(path.name))}
    step = max(steps) if step is None else step
    if step not in steps:
        raise InputError(f"{source} holds no weights of step {step}: there are {', '.join(map(str, sorted(steps)))}.")
    config = read_config(steps[step].with_name(steps[step].name.replace("model", "meta")).with_suffix(".json"))
    converted = load_tokenizer(Path(tokenizer or source), config.max_position_embeddings)
    check_vocabulary(converted, config.vocab_size)
    weights = read_weights(steps[step], config.vocab_size)
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()  # after the title
        raise InputError(f"the weights in {steps[step]} are not those of its meta file: {first[:200]}") from None
    model.config.dtype = model.dtype
    set_special_tokens(model, converted)
    return model.eval(), converted


def read_config(path: Path) -> NanochatGPTConfig:
    """Our config for the sizes in a meta file."""
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))["model_config"]
        unknown = sorted(set(sizes) - set(SIZES))
        if unknown:
            raise InputError(f"{path} has {', '.join(unknown)}: only the architecture of 2025 converts.")
        return NanochatGPTConfig(
            **{ours: positive(sizes[theirs]) for theirs, ours in SIZES.items()}, rms_norm_eps=RMS_NORM_EPS
        )
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it tells the sizes of the model beside it.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} does not describe a model of nanochat's: {reason}.") from None


def positive(size: Any) -> int:
    """`size`, which must be a number of something."""
    if type(size) is not int or size < 1:
        raise ValueError(f"a size is {size!r}")
    return size


def load_tokenizer(path: Path, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer in the file `path`, or in the directory `path`."""
    path = path / TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no tokenizer at {path}: name nanochat's {TOKENIZER} by --tokenizer.")
    return load_encoding(path, context)


def read_weights(path: Path, vocab_size: int) -> dict[str, torch.Tensor]:
    """The weights under our names, all in the widest dtype among them, without rows beyond the vocabulary."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises anything
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path} cannot be read as weights and nothing else: {reason}") from None
    if not isinstance(tensors, dict) or not all(isinstance(each, torch.Tensor) for each in tensors.values()):
        raise InputError(f"{path} holds something else than a model's weights.")
    named = {our_name(str(name).removeprefix(COMPILED), path): each for name, each in tensors.items()}
    dtype = torch.float32 if torch.float32 in {each.dtype for each in named.values()} else None
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = len(named[name]) if name in named else vocab_size
        if vocab_size < rows <= -(-vocab_size // ROWS_MULTIPLE) * ROWS_MULTIPLE:
            named[name] = named[name][:vocab_size]
    return {name: each.to(dtype or each.dtype).contiguous() for name, each in named.items()}


def our_name(name: str, path: Path) -> str:
    """What we call the original's parameter `name`."""
    for theirs, ours in NAMES:
        if match := re.fullmatch(theirs, name):
            return match.expand(ours)
    raise InputError(f"{path} holds {name[:100]}, which the architecture of 2025 has not: only that one converts.")
