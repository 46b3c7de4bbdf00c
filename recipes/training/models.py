"""The model and the tokenizer that a script works with, from its arguments."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig
from recipes import loading
from recipes.errors import InputError
from recipes.training.arguments import LoopArguments
from tokenizer.chat import stop_token_ids
from tokenizer.special_tokens import ASSISTANT_END, PYTHON_END

# On a CPU, short rows train faster with attention spelled out than with its flash kernel: 1.17 x at 512 tokens,
# compiled (benchmarks/RESULTS.md). Longer ones would need too much memory for their T x T weights.
LONGEST_EAGER_ROW = 1024


def load_tokenizer(args: LoopArguments) -> PreTrainedTokenizerFast:
    """The tokenizer that the arguments name. Raises `InputError` if it cannot be had."""
    name = args.tokenizer or args.model_name_or_path
    if name is None:
        raise InputError(
            "no tokenizer: train one by `python -m tokenizer.train --dataset ... --output_dir DIR`, "
            "then give --tokenizer DIR."
        )
    loading.check_source(name, "model" if args.tokenizer is None else "tokenizer")
    tokenizer = loading.load_tokenizer(name)
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {name} is not a fast one (tokenizer.json): convert it first.")
    tokenizer.model_max_length = args.max_seq_len  # saved with the model, whose context it is
    return tokenizer


def build_config(args: LoopArguments, vocab_size: int) -> PretrainedConfig:
    """Configuration of the model to train: by the dial, from `model_config`, or of `model_name_or_path`."""
    if args.model_name_or_path or args.model_config:
        source = args.model_name_or_path or args.model_config
        config = loading.load_config(source)
        if args.model_config:
            config.vocab_size = vocab_size
        elif config.vocab_size < vocab_size:
            raise InputError(
                f"the tokenizer has {vocab_size:,} tokens, the model {source} only {config.vocab_size:,}: "
                "give the tokenizer that the model was trained with."
            )
        longest = getattr(config, "max_position_embeddings", args.max_seq_len)
        if longest < args.max_seq_len:
            raise InputError(f"max_seq_len {args.max_seq_len} is beyond the model's context of {longest} tokens.")
        return config
    return NanochatGPTConfig.from_depth(args.depth, vocab_size=vocab_size, max_position_embeddings=args.max_seq_len)


def build_model(args: LoopArguments, config: PretrainedConfig, device: torch.device | str) -> PreTrainedModel:
    """The model in fp32 on `device`, freshly initialized or loaded; "meta" gives shapes without weights."""
    with torch.device(device):
        if args.model_name_or_path and str(device) != "meta":
            model = loading.load_weights(args.model_name_or_path, None, dtype=torch.float32)  # checked with its config
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.loss_type = model.loss_type or "ForCausalLM"  # of GPT-2, whose class is not called so
    if torch.device(device).type == "cpu" and args.max_seq_len <= LONGEST_EAGER_ROW:
        model.set_attn_implementation("eager")
    if args.gradient_checkpointing:
        # Which the older versions of transformers that we allow call by its old name only.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Tell the model's configs which ids begin, end and pad a text.

    With a tokenizer of ours, generation also ends where a tool is called: its result is not the model's to write.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(tokenizer, name)
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    if {ASSISTANT_END, PYTHON_END} <= tokenizer.get_vocab().keys():
        model.generation_config.eos_token_id = stop_token_ids(tokenizer)
