"""The chat model that SFT, DPO and GRPO start from: any causal LM with its tokenizer, quantized or with adapters."""

from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig, get_quantization_config

from recipes.inference.generate import context_length
from recipes.training.adapters import add_adapters
from recipes.training.attention import LONGEST_EAGER_ROW
from recipes.training.models import check_causal, set_special_tokens
from recipes.utils.errors import InputError
from recipes.utils.loading import check_decoder, load_config, load_tokenizer, load_weights
from recipes.utils.run_directory import STAGES
from tokenizer.chat import add_chat_template

DEFAULT_CONTEXT = 1024  # tokens, for a model without positions, which would take rows of any length


def resolve_source(source: str, output_dir: Path) -> str:
    """Directory or Hub id of the model to start from; the name of a stage means the one beside `output_dir`."""
    return str(output_dir.parent / source) if source in STAGES else source


def load_trainable_chat_model(
    source: str,
    model_args: ModelConfig,
    attention: str | None = None,
    longest_row: int | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal LM and its tokenizer to be trained on chats.

    A model without a chat template gets ours, and new embeddings for the special tokens that it lacks.

    Args:
        source: directory or Hub id.
        model_args: precision, quantization and adapters.
        attention: its implementation; by default the fastest for the rows.
        longest_row: tokens of the longest row to train on (default: the model's context).

    Raises:
        InputError: if the model cannot be loaded, is not a causal LM, or has a shorter context than `longest_row`.
    """
    check_decoder(load_config(source, trust_remote_code), source)
    quantization = get_quantization_config(model_args)
    tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code)
    model = load_weights(
        source,
        tokenizer,
        dtype=model_args.dtype or torch.float32,
        quantization_config=quantization,
        device_map={"": PartialState().device} if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    if tokenizer.chat_template is None:
        add_chat_template(tokenizer)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    model._keys_to_ignore_on_save = list(model.all_tied_weights_keys)  # or Trainer warns that a tied head is missing
    if not quantization:
        model.to(PartialState().device)  # before the optimizer is built, which goes by where the weights are
    set_special_tokens(model, tokenizer)
    context = context_length(model, default=DEFAULT_CONTEXT)
    if longest_row is not None and longest_row > context:
        raise InputError(f"max_length {longest_row:,} is beyond the model's context of {context:,} tokens.")
    tokenizer.model_max_length = context
    if attention:
        model.set_attn_implementation(attention)
    elif model.device.type == "cpu" and (longest_row or context) <= LONGEST_EAGER_ROW:
        model.set_attn_implementation("eager")
    if not quantization:  # bitsandbytes packs weights for inference at the first pass without gradients
        check_causal(model, source)
    return add_adapters(model, model_args), tokenizer
