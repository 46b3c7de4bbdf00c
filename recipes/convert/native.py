"""Convert between NanochatGPT and transformers' NanoChat: parameters have the same names, only the config changes."""

import reprlib
from typing import Any

import torch
from transformers import (
    NanoChatConfig,
    NanoChatForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.messages import choice_wording
from recipes.utils.errors import InputError
from recipes.utils.loading import load_config, load_tokenizer, load_weights
from recipes.utils.model_facts import FEATURES_OF_2026
from tokenizer.chat import MULTIPLE_CHOICE

OURS, NANOCHAT = NanochatGPTConfig.model_type, NanoChatConfig.model_type
SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "final_logit_softcapping",
    "attention_dropout",
    "use_cache",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
)
# Fields about the class or file, and of new weights, which do not matter for a trained model.
ELSEWHERE = {"architectures", "auto_map", "model_type", "transformers_version", "_name_or_path"}
ELSEWHERE |= {"initializer_range", "initial_embedding_std", "initial_head_std", "initial_fc1_scale"}
# The two write the rotary base in different fields, and only ours has a dtype of the angles.
ROTARY = {"rope_theta", "rope_parameters", "rotary_dtype"}


def load_checkpoint(source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a model, in the dtype of its weights, and its tokenizer from a directory or the Hub.

    Raises `InputError` if they cannot be loaded completely, have another architecture, or do not belong together.
    """
    config = load_config(source)
    tokenizer = load_tokenizer(source)
    if config.model_type not in (OURS, NANOCHAT):
        raise InputError(
            f"{source} has the architecture {config.model_type}: only {OURS} (ours) and {NANOCHAT} "
            "(transformers' own) can be converted."
        )
    check_vocabulary(tokenizer, config.vocab_size)
    tokenizer.init_kwargs[MULTIPLE_CHOICE] = choice_wording(tokenizer, config)  # the default depends on the class
    return load_weights(source, tokenizer, whole=True, dtype="auto").eval(), tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> None:
    """Raise `InputError` unless the tokenizer has exactly as many tokens as the embedding has rows."""
    if len(tokenizer) != vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model {vocab_size:,}: it belongs to another model."
        )


def to_nanochat(model: NanochatGPTForCausalLM) -> NanoChatForCausalLM:
    """The same weights in transformers' own class. Raises `InputError` for settings that it does not support."""
    config = model.config
    if used := [name for name in FEATURES_OF_2026 if getattr(config, name)]:
        raise InputError(
            f"the model is of generation 2026 ({', '.join(used)}), which transformers' NanoChat lacks: "
            "only models of 2025 convert to it."
        )
    check_expressible(config, NanochatGPTConfig(), "transformers' NanoChat")
    rotary = {"rope_type": "default", "rope_theta": config.rope_theta}
    return with_weights(NanoChatForCausalLM, NanoChatConfig(**shared(config), rope_parameters=rotary), model)


def to_ours(model: NanoChatForCausalLM) -> NanochatGPTForCausalLM:
    """The same weights in our class. Raises `InputError` for settings that it does not support."""
    config = model.config
    check_expressible(config, NanoChatConfig(), "NanochatGPT")
    rotary = config.rope_parameters
    if rotary.get("rope_type", "default") != "default" or rotary.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"the model's rotary positions are of the type {rotary}, which NanochatGPT does not support.")
    return with_weights(
        NanochatGPTForCausalLM, NanochatGPTConfig(**shared(config), rope_theta=rotary["rope_theta"]), model
    )


def shared(config: PretrainedConfig) -> dict[str, Any]:
    """The fields that have the same name in both configs."""
    return {name: getattr(config, name) for name in SHARED}


def check_expressible(config: PretrainedConfig, classic: PretrainedConfig, target: str) -> None:
    """Raise `InputError` if `config` changes a field that the two architectures do not share from its default."""
    defaults = classic.to_dict()
    absent = object()
    used = [
        name
        for name, value in config.to_dict().items()
        if name not in {*SHARED, *ELSEWHERE, *ROTARY} and value != defaults.get(name, absent)
    ]
    if used:
        settings = ", ".join(f"{name} = {reprlib.repr(getattr(config, name))}" for name in used)
        raise InputError(f"the model has {settings}, which {target} lacks: only classic checkpoints convert.")


def with_weights(
    target: type[PreTrainedModel], config: PretrainedConfig, model: PreTrainedModel
) -> NanoChatForCausalLM | NanochatGPTForCausalLM:
    """A model of class `target` with the tensors (not copied) and the generation config of `model`."""
    with torch.device("meta"):
        converted = target(config)
    converted.load_state_dict(model.state_dict(), strict=True, assign=True)
    converted.generation_config = model.generation_config
    return converted.eval()
