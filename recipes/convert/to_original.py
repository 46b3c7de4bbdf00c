"""Write a model of ours as karpathy/nanochat's files, which its code of July 2026 loads and its engine runs."""

import json
import reprlib
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.convert.original_format import (
    CONSTANTS_2026,
    SIZES,
    TOKEN_BYTES,
    TOKENIZER,
    WINDOW_PATTERN,
    parameter_names,
    window_pattern,
)
from recipes.convert.to_encoding import pickled_encoding
from recipes.utils.errors import InputError
from recipes.utils.model_facts import generation_of
from tokenizer.encode import token_byte_lengths

STEP = 0  # in the names of the files: a model does not know how many steps it was trained
MODEL, META = f"model_{STEP:06d}.pt", f"meta_{STEP:06d}.json"
EMBEDDINGS = ("transformer.wte.", "value_embeds.")
# Fields that its code has built in, beside the sizes and windows.
BUILT_IN = (
    *("query_key_scale", "rope_theta", "rotary_dtype", "value_embeddings", "residual_scalars", "smear", "backout"),
    *("rms_norm_eps", "intermediate_size", "final_logit_softcapping", "tie_word_embeddings", "padded_vocab_size"),
)


def save_original(model: NanochatGPTForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write weights, sizes and tokenizer into `directory`.

    Raises `InputError` if nanochat's code would compute another model or its tokenizer make other tokens.
    """
    config = model.config
    check_computable(config)
    (directory / TOKENIZER).write_bytes(pickled_encoding(tokenizer))
    torch.save(token_byte_lengths(tokenizer).int(), directory / TOKEN_BYTES)
    sizes = {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}
    meta = {"step": STEP, "model_config": sizes | {WINDOW_PATTERN: window_pattern(config)}}
    (directory / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    tensors = model.state_dict()
    weights = {theirs: as_stored(theirs, tensors[ours]) for theirs, ours in parameter_names(config).items()}
    torch.save(weights, directory / MODEL)


def as_stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as nanochat stores it: embeddings in bf16, unless that would round them."""
    half = tensor.bfloat16() if name.startswith(EMBEDDINGS) else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def check_computable(config: NanochatGPTConfig) -> None:
    """Raise `InputError` unless nanochat's code of July 2026 computes a model of this config."""
    if generation_of(config) == 2025:
        raise InputError(
            "the model is of generation 2025, and nanochat's code of July 2026 computes models of 2026 only: "
            "with value embeddings, another rotary base, queries and keys times 1.2."
        )
    sizes = {ours: getattr(config, ours) for ours in SIZES.values()}
    theirs = NanochatGPTConfig(**sizes, **CONSTANTS_2026)
    theirs.apply_window_pattern(window_pattern(config))
    built_in = settings(theirs)
    different = [
        f"{name} = {reprlib.repr(value)} (there: {reprlib.repr(built_in[name])})"
        for name, value in settings(config).items()
        if value != built_in[name]
    ]
    if different:
        raise InputError(f"the model has {', '.join(different)}, which nanochat's code of July 2026 cannot compute.")


def settings(config: NanochatGPTConfig) -> dict[str, Any]:
    """What a model of `config` computes with, beside the sizes."""
    windows = [
        config.sliding_window if config.is_sliding(layer) else None for layer in range(config.num_hidden_layers)
    ]
    return {name: getattr(config, name) for name in BUILT_IN} | {"windows": windows}
