"""LoRA adapters: trained in place of a model's weights, and merged into them when training is done."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig, get_peft_config

from recipes.utils import atomic
from recipes.utils.errors import InputError


def add_adapters(model: PreTrainedModel, model_args: ModelConfig) -> PreTrainedModel:
    """The model with LoRA adapters if `--use_peft` asks for them: on all linear layers where none are named."""
    quantized = model_args.load_in_4bit or model_args.load_in_8bit
    if not model_args.use_peft:
        if quantized:
            raise InputError("a model in 4 or 8 bits cannot be trained whole: add --use_peft.")
        return model
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ImportError:
        raise InputError("--use_peft needs peft: pip install -e '.[peft]'.") from None
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = get_peft_config(model_args)
    config.target_modules = config.target_modules or "all-linear"
    return get_peft_model(model, config)


def base_model(model: PreTrainedModel) -> PreTrainedModel:
    """The model that the adapters, if there are any, were added to."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def merge_adapters(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, adapter_dir: Path
) -> PreTrainedModel:
    """Save the adapters to `adapter_dir`, and merge them into `source` in fp32 (it may have been quantized).

    A model without adapters is returned as it is.
    """
    if not hasattr(model, "peft_config"):
        return model
    from peft import PeftModel

    with atomic.new_directory(adapter_dir) as directory:
        model.save_pretrained(directory)
    base = type(model.get_base_model()).from_pretrained(source, dtype=torch.float32)
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer))
    return PeftModel.from_pretrained(base, adapter_dir).merge_and_unload()
