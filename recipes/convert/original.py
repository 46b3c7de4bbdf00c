"""Convert karpathy/nanochat's original files, as its 2025 versions write them, to our model and tokenizer.

The original rounds the rotary cosines and sines to bf16, whatever dtype it computes in, and so do the converted models
(`rotary_dtype`). transformers' NanoChat cannot: its fp32 logits differ by some hundredths.
"""

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.convert.encoding import load_encoding
from recipes.convert.native import check_vocabulary
from recipes.training.models import set_special_tokens
from recipes.utils.errors import InputError, in_one_line
from tokenizer.chat import MULTIPLE_CHOICE, NANOCHAT

WEIGHTS = re.compile(r"model_(\d+)\.pt")
TOKENIZER = "tokenizer.pkl"
# Its code calls F.rms_norm without an epsilon; the default is fp32's machine epsilon, also for bf16.
RMS_NORM_EPS = torch.finfo(torch.float32).eps
ROTARY_DTYPE = "bfloat16"
# Embedding and head are padded to a multiple of 64 rows; its code removes the extra logits.
ROWS_MULTIPLE = 64
PARAMETERS, PARAMETERS_PER_LAYER = 2, 6
LARGEST_SIZE = 2**24  # larger than in any model, and small enough for the product of two sizes to fit into 64 bits
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
COMPILED = "_orig_mod."  # prefix of each name if a compiled model was saved


def has_original_weights(source: Path) -> bool:
    """Whether `source` is a directory of original weights."""
    return source.is_dir() and any(WEIGHTS.fullmatch(path.name) for path in source.iterdir())


def load_original(
    source: Path, tokenizer: str | None, step: int | None
) -> tuple[NanochatGPTForCausalLM, PreTrainedTokenizerFast]:
    """Load the weights of `step` (default: the last one) in `source` as our model, and the tokenizer.

    `tokenizer` is tokenizer.pkl or its directory, by default `source`. Raises `InputError` if files are missing or do
    not match, and for the architecture of 2026, which has parameters that ours lacks.
    """
    steps = {int(match[1]): path for path in source.iterdir() if (match := WEIGHTS.fullmatch(path.name))}
    step = max(steps) if step is None else step
    if step not in steps:
        raise InputError(f"{source} holds no weights of step {step}: there are {', '.join(map(str, sorted(steps)))}.")
    config = read_config(steps[step].with_name(steps[step].name.replace("model", "meta")).with_suffix(".json"))
    converted = load_tokenizer(Path(tokenizer or source), config.max_position_embeddings)
    check_vocabulary(converted, config.vocab_size)
    tensors = read_tensors(steps[step], config)
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    check_shapes(tensors, model, steps[step])
    model.load_state_dict(in_one_dtype(tensors), strict=True, assign=True)
    model.config.dtype = model.dtype
    set_special_tokens(model, converted)
    converted.init_kwargs[MULTIPLE_CHOICE] = NANOCHAT  # the wording that the model was trained with
    return model.eval(), converted


def read_config(path: Path) -> NanochatGPTConfig:
    """Our config with the sizes in a meta file."""
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))["model_config"]
        unknown = sorted(set(sizes) - set(SIZES))
        if unknown:
            raise InputError(f"{path} has {', '.join(unknown)}: only the architecture of 2025 can be converted.")
        return NanochatGPTConfig(
            **{ours: positive(sizes[theirs]) for theirs, ours in SIZES.items()},
            rms_norm_eps=RMS_NORM_EPS,
            rotary_dtype=ROTARY_DTYPE,
        )
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it holds the sizes of the model beside it.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} does not describe a model of nanochat: {in_one_line(error)}.") from None


def positive(size: Any) -> int:
    """`size`, or `ValueError` unless it is a plausible positive integer."""
    if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
        raise ValueError(f"a size is {size!r}")
    return size


def load_tokenizer(path: Path, context: int) -> PreTrainedTokenizerFast:
    """Load the tokenizer in the file or directory `path`."""
    path = path / TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no tokenizer at {path}: give nanochat's {TOKENIZER} by --tokenizer.")
    return load_encoding(path, context)


def read_tensors(path: Path, config: NanochatGPTConfig) -> dict[str, torch.Tensor]:
    """The weights by our names, without rows beyond the vocabulary; memory-mapped, not copied."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged files raise anything
        raise InputError(f"{path} cannot be read as weights and nothing else: {in_one_line(error, 150)}") from None
    if not isinstance(tensors, dict) or not all(map(is_weight, tensors.values())):
        raise InputError(f"{path} holds something other than a model's weights.")
    named = {our_name(str(name).removeprefix(COMPILED), path): each for name, each in tensors.items()}
    expected = PARAMETERS + PARAMETERS_PER_LAYER * config.num_hidden_layers
    if len(tensors) != expected:  # before a model with that many layers is built
        raise InputError(
            f"the weights in {path} are not those of its meta file: {config.num_hidden_layers} layers have "
            f"{expected} matrices, and there are {len(tensors)}."
        )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = named[name].size(0) if name in named and named[name].dim() else 0
        if config.vocab_size < rows <= -(-config.vocab_size // ROWS_MULTIPLE) * ROWS_MULTIPLE:
            named[name] = named[name][: config.vocab_size]
    return named


def is_weight(value: Any) -> bool:
    """Whether `value` is a dense floating-point tensor."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.dtype in dtypes


def check_shapes(tensors: dict[str, torch.Tensor], model: NanochatGPTForCausalLM, path: Path) -> None:
    """Raise `InputError` unless `tensors` have the names and shapes of the parameters of `model`."""
    for name, parameter in model.state_dict().items():
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        if found != tuple(parameter.shape):
            raise InputError(
                f"the weights in {path} are not those of its meta file: {name} is {found} and not "
                f"{tuple(parameter.shape)}."
            )


def in_one_dtype(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert the tensors to the narrowest dtype that can hold all of them."""
    dtype = reduce(torch.promote_types, {each.dtype for each in tensors.values()})
    return {name: each.detach().to(dtype).contiguous() for name, each in tensors.items()}


def our_name(name: str, path: Path) -> str:
    """Our name of the original parameter `name`."""
    for theirs, ours in NAMES:
        if match := re.fullmatch(theirs, name):
            return match.expand(ours)
    raise InputError(
        f"{path} holds {name[:100]!r}, which the architecture of 2025 lacks: only that one can be converted."
    )
