"""Convert karpathy/nanochat's original files, as its 2025 and 2026 versions write them, to our model and tokenizer.

The generation is recognized: files without what came in 2026, be it parameters or a window pattern, are of 2025.

The code of 2025 rounds the rotary cosines and sines to bf16, whatever dtype it computes in, and so do the converted
models (`rotary_dtype`). transformers' NanoChat cannot: its fp32 logits differ by some hundredths. That of 2026 rounds
them to the dtype that it computes in, as our model does by itself.
"""

import json
import re
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.convert.encoding import load_encoding
from recipes.convert.native import check_vocabulary
from recipes.convert.original_format import (
    CONSTANTS_2025,
    CONSTANTS_2026,
    NEW_IN_2026,
    SIZES,
    TOKENIZER,
    WEIGHTS,
    WINDOW_PATTERN,
    parameter_names,
)
from recipes.training.models import set_special_tokens
from recipes.utils.errors import InputError, in_one_line
from tokenizer.chat import MULTIPLE_CHOICE, NANOCHAT

# Since December 2025, embeddings and head are padded to a multiple of 64 rows; its code removes the extra logits.
ROWS_MULTIPLE = 64
LARGEST_SIZE = 2**24  # larger than in any model, and small enough for the product of two sizes to fit into 64 bits
BLOCK = re.compile(r"transformer\.h\.(\d{1,9})\.")
COMPILED = "_orig_mod."  # prefix of each name if a compiled model was saved
NAMED = 3  # parameters that an error names, of those it is about


def has_original_weights(source: Path) -> bool:
    """Whether `source` is a directory of original weights."""
    return source.is_dir() and any(WEIGHTS.fullmatch(path.name) for path in source.iterdir())


def load_original(
    source: Path, tokenizer: str | None, step: int | None
) -> tuple[NanochatGPTForCausalLM, PreTrainedTokenizerFast]:
    """Load the weights of `step` (default: the last one) in `source` as our model, and the tokenizer.

    `tokenizer` is tokenizer.pkl or its directory, by default `source`. Raises `InputError` if files are missing or do
    not match, and for weights of the months in between, which nanochat's code of July 2026 does not load either.
    """
    steps = {int(match[1]): path for path in source.iterdir() if (match := WEIGHTS.fullmatch(path.name))}
    step = max(steps) if step is None else step
    if step not in steps:
        raise InputError(f"{source} holds no weights of step {step}: there are {', '.join(map(str, sorted(steps)))}.")
    path = steps[step]
    meta = path.with_name(path.name.replace("model", "meta")).with_suffix(".json")
    sizes, tensors = read_sizes(meta), read_tensors(path)
    check_depth(sizes["n_layer"], tensors, path)
    config = make_config(sizes, tensors, meta)
    converted = load_tokenizer(Path(tokenizer or source), config.max_position_embeddings)
    check_vocabulary(converted, config.vocab_size)
    model = make_model(config, tensors, path)
    set_special_tokens(model, converted)
    converted.init_kwargs[MULTIPLE_CHOICE] = NANOCHAT  # the wording that the model was trained with
    return model, converted


def read_sizes(path: Path) -> dict[str, Any]:
    """The model's sizes in a meta file by nanochat's names, and its window pattern if it has one."""
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))["model_config"]
        unknown = sorted(set(sizes) - {*SIZES, WINDOW_PATTERN})
        if unknown:
            raise InputError(f"{path} has {few(unknown)}: only models of 2025 and of July 2026 can be converted.")
        for name in SIZES:
            check_size(sizes[name])
        if not isinstance(sizes.get(WINDOW_PATTERN, ""), str):
            raise ValueError(f"{WINDOW_PATTERN} is {sizes[WINDOW_PATTERN]!r}")
        return sizes
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it holds the sizes of the model beside it.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise no_model(path, error) from None


def no_model(meta: Path, error: Exception) -> InputError:
    return InputError(f"{meta} does not describe a model of nanochat: {in_one_line(error)}.")


def check_size(size: Any) -> None:
    """Raise `ValueError` unless `size` is a plausible positive integer."""
    if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
        raise ValueError(f"a size is {size!r}")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The weights by nanochat's names; memory-mapped, not copied."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged files raise anything
        raise InputError(f"{path} cannot be read as weights and nothing else: {in_one_line(error, 150)}") from None
    if not isinstance(tensors, dict) or not all(map(is_weight, tensors.values())):
        raise InputError(f"{path} holds something other than a model's weights.")
    named = {str(name).removeprefix(COMPILED): each for name, each in tensors.items()}
    if len(named) < len(tensors):
        raise InputError(f"{path} holds parameters twice, with and without {COMPILED} before their names.")
    return named


def is_weight(value: Any) -> bool:
    """Whether `value` is a dense floating-point tensor."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.dtype in dtypes


def check_depth(depth: int, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Raise `InputError` unless the weights are of `depth` blocks. Before a model of that depth is built."""
    blocks = {match[1] for name in tensors if (match := BLOCK.match(name))}
    if len(blocks) != depth:
        raise InputError(
            f"the weights in {path} are not those of its meta file: n_layer is {depth}, and there are "
            f"{len(blocks)} blocks."
        )


def make_config(sizes: dict[str, Any], tensors: dict[str, torch.Tensor], meta: Path) -> NanochatGPTConfig:
    """Our config of a checkpoint, of the generation that its files show."""
    ours = {SIZES[name]: size for name, size in sizes.items() if name in SIZES}
    try:
        if WINDOW_PATTERN not in sizes and not any(map(NEW_IN_2026.fullmatch, tensors)):
            return NanochatGPTConfig(**ours, **CONSTANTS_2025)
        config = NanochatGPTConfig(**ours, **CONSTANTS_2026)
        config.apply_window_pattern(sizes.get(WINDOW_PATTERN, "L"))  # as nanochat's own code patches files without it
        return config
    except ValueError as error:
        raise no_model(meta, error) from None


def load_tokenizer(path: Path, context: int) -> PreTrainedTokenizerFast:
    """Load the tokenizer in the file or directory `path`."""
    path = path / TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no tokenizer at {path}: give nanochat's {TOKENIZER} by --tokenizer.")
    return load_encoding(path, context)


def make_model(config: NanochatGPTConfig, tensors: dict[str, torch.Tensor], path: Path) -> NanochatGPTForCausalLM:
    """Our model with the weights `tensors`, which are by nanochat's names."""
    if config.residual_scalars:
        tensors = with_neutral_scalars(tensors, config.num_hidden_layers)
    else:
        tensors = {name: without_padding(name, each, config.vocab_size) for name, each in tensors.items()}
    names = parameter_names(config)
    check_names(names, tensors, config, path)
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    expected = model.state_dict()
    for name, tensor in tensors.items():
        check_shape(name, tuple(tensor.shape), tuple(expected[names[name]].shape), path)
    tensors = in_one_dtype({names[name]: tensor for name, tensor in tensors.items()})
    model.load_state_dict(tensors, strict=True, assign=True)
    model.config.dtype = model.dtype
    return model.eval()


def with_neutral_scalars(tensors: dict[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """The weights, with residual scalars that change nothing if there are none, as nanochat's own code adds them."""
    dtype = min((each.dtype for each in tensors.values()), key=lambda dtype: dtype.itemsize)  # which holds 0 and 1
    missing = {"resid_lambdas": torch.ones(depth, dtype=dtype), "x0_lambdas": torch.zeros(depth, dtype=dtype)}
    return missing | tensors


def without_padding(name: str, tensor: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """An embedding or head of 2025 without the rows beyond the vocabulary, which some months padded it to."""
    padded = name in ("transformer.wte.weight", "lm_head.weight") and tensor.dim()
    rows = tensor.size(0) if padded else 0
    return tensor[:vocab_size] if vocab_size < rows <= -(-vocab_size // ROWS_MULTIPLE) * ROWS_MULTIPLE else tensor


def check_names(names: Iterable[str], tensors: dict[str, torch.Tensor], config: NanochatGPTConfig, path: Path) -> None:
    """Raise `InputError` unless the weights have these names, and no others."""
    missing, unknown = [name for name in names if name not in tensors], [name for name in tensors if name not in names]
    wrong = [f"lacks {few(missing)}"] * bool(missing) + [f"holds the unknown {few(unknown)}"] * bool(unknown)
    if wrong:
        month = "July 2026" if config.residual_scalars else "2025"
        loads = "its own code of then does not load it either" if config.residual_scalars else "it cannot be converted"
        raise InputError(f"{path} is not of nanochat's architecture of {month}: it {' and '.join(wrong)}; {loads}.")


def few(names: list[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(repr(name)[:60] for name in names[:NAMED]) + more


def check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], path: Path) -> None:
    if shape != expected:
        raise InputError(
            f"the weights in {path} are not those of its meta file: {name} is {shape} and not {expected}."
        )


def in_one_dtype(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert the tensors to the narrowest dtype that can hold all of them."""
    dtype = reduce(torch.promote_types, {each.dtype for each in tensors.values()})
    return {name: each.detach().to(dtype).contiguous() for name, each in tensors.items()}
