"""The model and the tokenizer that a script works with, from its arguments."""

from pathlib import Path

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from modeling_nanochat import NanochatGPTConfig
from recipes.errors import InputError
from recipes.hub import check_hub_reachable
from recipes.training.arguments import LoopArguments
from recipes.training.checkpoint_files import unreadable
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
    check_source(name, "tokenizer", "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # a damaged file raises anything, in `tokenizers` no more than a bare Exception
        raise InputError(f"tokenizer {name} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {name} is not a fast one (tokenizer.json): convert it first.")
    tokenizer.model_max_length = args.max_seq_len  # saved with the model, whose context it is
    return tokenizer


def load_config(source: str) -> PretrainedConfig:
    """Configuration of the model in `source`. Raises `InputError` if there is none."""
    check_source(source, "model", "config.json")
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"no model configuration in {source}: {' '.join(str(error).split())[:200]}") from None


def build_config(args: LoopArguments, vocab_size: int) -> PretrainedConfig:
    """Configuration of the model to train: by the dial, from `model_config`, or of `model_name_or_path`."""
    if args.model_name_or_path or args.model_config:
        source = args.model_name_or_path or args.model_config
        config = load_config(source)
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
            try:
                model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path, dtype=torch.float32)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                reason = " ".join(str(error).split())[:300]
                raise InputError(f"model {args.model_name_or_path} cannot be loaded: {reason}") from None
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if torch.device(device).type == "cpu" and args.max_seq_len <= LONGEST_EAGER_ROW:
        model.set_attn_implementation("eager")
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
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


def check_source(name: str, what: str, file: str) -> None:
    """Raise `InputError` early if `name` is a path to nothing, or a Hub id while the Hub cannot be reached.

    Or a directory whose weights are cut off.
    """
    path = Path(name)
    if path.is_file() and what == "model":
        return
    if path.is_dir():
        if not (path / file).exists():
            raise InputError(f"{what} directory {name} holds no {file}.")
        for weights in sorted(path.glob("*.safetensors")) if what == "model" else []:
            if damage := unreadable(weights):
                raise InputError(f"{what} {name} is damaged: {weights.name} is not whole ({damage}).")
        return
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or name.endswith(".json"):
        raise InputError(f"{what} {name}: no such directory.")
    if not constants.HF_HUB_OFFLINE:  # offline, what the cache holds is found at once
        check_hub_reachable(
            f"{what} {name} is no directory here. Give a local one, or set HF_HUB_OFFLINE=1 to use the cache."
        )
