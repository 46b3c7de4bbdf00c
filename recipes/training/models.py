"""The model and the tokenizer that a script works with, from its arguments."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig
from recipes.training.arguments import LoopArguments
from recipes.utils import loading
from recipes.utils.errors import InputError
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
        loading.check_decoder(config, source)
        if args.model_config:
            config.vocab_size = vocab_size
        elif config.vocab_size < vocab_size:
            raise InputError(
                f"the tokenizer has {vocab_size:,} tokens, the model {source} only {config.vocab_size:,}: "
                "give the tokenizer that the model was trained with."
            )
        longest = getattr(config, "max_position_embeddings", None) or args.max_seq_len
        if 0 < longest < args.max_seq_len:  # -1 where there is none
            raise InputError(f"max_seq_len {args.max_seq_len} is beyond the model's context of {longest} tokens.")
        return config
    return NanochatGPTConfig.from_depth(args.depth, vocab_size=vocab_size, max_position_embeddings=args.max_seq_len)


def build_model(args: LoopArguments, config: PretrainedConfig, device: torch.device | str) -> PreTrainedModel:
    """The model in fp32 on `device`, freshly initialized or loaded; "meta" gives shapes without weights.

    Raises `InputError` if another architecture cannot be built or is not a causal LM.
    """
    source = args.model_name_or_path or args.model_config
    with torch.device(device):
        if args.model_name_or_path and str(device) != "meta":
            model = loading.load_weights(args.model_name_or_path, None, dtype=torch.float32)  # checked with its config
        elif source is None:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            try:
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
            except Exception as error:  # what transformers' classes make of a config that makes no sense
                raise InputError(f"{source} gives no causal LM: {loading.in_one_line(error)}") from None
    model.loss_type = model.loss_type or "ForCausalLM"  # of GPT-2, whose class is not called so
    if torch.device(device).type == "cpu" and args.max_seq_len <= LONGEST_EAGER_ROW:
        model.set_attn_implementation("eager")
    if source is not None and str(device) != "meta":
        check_causal(model, source)
    if args.gradient_checkpointing:
        # Which the older versions of transformers that we allow call by its old name only.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


@torch.no_grad()
def check_causal(model: PreTrainedModel, source: str) -> None:
    """Raise `InputError` unless what `model` predicts depends on earlier tokens alone.

    An encoder (BERT, XLNet) would see the tokens that it is to predict, and learn to copy them. Of the sixteen tokens
    of a row the later half is changed: what the model predicts in the earlier half must stay as it was.
    """
    length = max(2, min(16, getattr(model.config, "max_position_embeddings", None) or 16))
    row = (torch.arange(length, device=model.device) * 7 + 5)[None] % model.config.vocab_size  # (1, T)
    half = length // 2
    changed = torch.cat([row[:, :half], row[:, half:] // 2], dim=1)
    was_training = model.training
    try:
        model.train()(input_ids=row, use_cache=False)  # dropout of more than all is not noticed before
        model.eval()
        before, after = (model(input_ids=each, use_cache=False).logits[:, :half] for each in (row, changed))
    except Exception as error:  # whatever a model of another kind, or of sizes that do not fit, stumbles over
        raise InputError(f"{source} cannot be trained as a causal LM: {loading.in_one_line(error)}") from None
    model.train(was_training)
    if empty := next((name for name, parameter in model.named_parameters() if parameter.numel() == 0), None):
        raise InputError(f"{source} gives a model without weights in {empty}: one of its sizes is 0.")
    if not before.isfinite().all():  # (1, T / 2, V)
        raise InputError(f"{source} predicts NaN: its weights are damaged, or a number in its configuration.")
    # Of 127 architectures of transformers, random and in fp32, causal ones differ by 7e-6 at most, others by 4e-4.
    tolerance = max(1e-4, 4 * torch.finfo(before.dtype).eps)
    if (before - after).abs().max() > tolerance * before.abs().max():
        raise InputError(f"{source} is not a causal LM: a {type(model).__name__} reads the tokens it is to predict.")


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
