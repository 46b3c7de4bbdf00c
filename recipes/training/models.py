"""The model and the tokenizer that a stage trains."""

import re
from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig
from recipes.training.attention import choose_attention, set_attention
from recipes.utils import loading
from recipes.utils.causality import check_causal
from recipes.utils.errors import InputError
from recipes.utils.model_facts import ModelFacts, describe_config, describe_model
from tokenizer.chat import stop_token_ids
from tokenizer.special_tokens import ASSISTANT_END, PYTHON_END


def load_tokenizer(name: str | None, max_seq_len: int, of_model: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer called `name`, for rows of `max_seq_len` tokens; or that `of_model`, as it is.

    Raises `InputError` if it cannot be loaded.
    """
    if name is None and of_model is None:
        raise InputError(
            "no tokenizer: train one by `python -m tokenizer.train --dataset ... --output_dir DIR`, "
            "then give --tokenizer DIR."
        )
    loading.check_source(name or of_model, "tokenizer" if name else "model")
    tokenizer = loading.load_tokenizer(name or of_model)
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {name or of_model} is not a fast one (tokenizer.json): convert it first.")
    if name is not None:
        tokenizer.model_max_length = max_seq_len  # saved with the model, whose context it is
    return tokenizer


def build_config(
    vocab_size: int,
    max_seq_len: int,
    depth: int | None = None,
    model_config: str | None = None,
    model_name_or_path: str | None = None,
    generation: int | None = None,
    window_pattern: str | None = None,
) -> PretrainedConfig:
    """Configuration of the model to train: of `model_name_or_path`, from the file `model_config`, or by `depth`.

    `generation` (None: 2025) and `window_pattern` (None: that of the generation) shape the model by `depth`.
    """
    source = model_name_or_path or model_config
    if source is None:
        return NanochatGPTConfig.from_depth(
            depth,
            vocab_size=vocab_size,
            generation=generation or 2025,
            window_pattern=window_pattern,
            max_position_embeddings=max_seq_len,
        )
    config = loading.load_config(source)
    loading.check_decoder(config, source)
    if model_name_or_path is None:
        config.vocab_size = vocab_size
    elif config.vocab_size < vocab_size:
        raise InputError(
            f"the tokenizer has {vocab_size:,} tokens, the model {source} only {config.vocab_size:,}: "
            "give the tokenizer that the model was trained with."
        )
    longest = getattr(config, "max_position_embeddings", None) or max_seq_len
    if 0 < longest < max_seq_len:  # -1 where there is none
        raise InputError(f"max_seq_len {max_seq_len} is beyond the model's context of {longest} tokens.")
    return config


def model_facts(
    config: PretrainedConfig, max_seq_len: int, source: str | None = None, freeze: str | None = None
) -> ModelFacts:
    """Size and FLOPs of the model of a config, and what `freeze` (see `freeze_parameters`) keeps out of training.

    `source` is where the config comes from, for messages.
    """
    if isinstance(config, NanochatGPTConfig) and freeze is None:
        return describe_config(config, max_seq_len)
    with torch.device("meta"):
        model = _from_config(config, source)
    facts = describe_model(model, max_seq_len)  # before parameters are frozen: it leaves those out
    return replace(facts, frozen=freeze_parameters(model, freeze))


def build_model(
    config: PretrainedConfig,
    max_seq_len: int,
    device: torch.device | str,
    source: str | None = None,
    pretrained: bool = False,
    gradient_checkpointing: bool = False,
    attention: str = "auto",
) -> PreTrainedModel:
    """The model in fp32 on `device`, freshly initialized, or with the weights in `source` if `pretrained`.

    Raises `InputError` if another architecture than ours cannot be built or is not a causal LM, or if the kernel that
    `attention` names does not work here.
    """
    with torch.device(device):
        model = loading.load_weights(source, None, dtype=torch.float32) if pretrained else _from_config(config, source)
    model.loss_type = model.loss_type or "ForCausalLM"  # transformers finds none by the name of GPT-2's class
    if source is not None:
        check_causal(model, source)
    # Behind that check, which runs in fp32: flash attention takes 16 bits only, which autocast gives it later.
    set_attention(model, choose_attention(attention, torch.device(device), max_seq_len))
    if gradient_checkpointing:
        # The older versions of transformers that we allow know it by its old name only.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


def _from_config(config: PretrainedConfig, source: str | None) -> PreTrainedModel:
    """A freshly initialized model in fp32, on the device of the context."""
    if source is None:
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    try:
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # transformers' classes raise anything for a config that makes no sense
        raise InputError(f"{source} gives no causal LM: {loading.in_one_line(error)}") from None


def freeze_parameters(model: torch.nn.Module, pattern: str | None) -> dict[str, int]:
    """Keep the parameters whose names the regular expression `pattern` matches, anywhere, out of training.

    Returns their sizes by name. Raises `InputError` if it is not a regular expression, or matches none or all of them.
    """
    if pattern is None:
        return {}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"freeze {pattern!r} is not a regular expression: {error}.") from None
    parameters = dict(model.named_parameters())
    frozen = {name: parameters[name].numel() for name in parameters if expression.search(name)}
    if not frozen:
        raise InputError(
            f"freeze {pattern!r} matches none of the model's {len(parameters)} parameters; "
            f"their names look like {list(parameters)[len(parameters) // 2]}."
        )
    if len(frozen) == len(parameters):
        raise InputError(f"freeze {pattern!r} matches all of the model's parameters: none would be trained.")
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Set the ids that begin, end and pad a text in the model's configs.

    With our chat format, generation also ends where a tool is called: the tool, not the model, writes its result.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(tokenizer, name)
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    if {ASSISTANT_END, PYTHON_END} <= tokenizer.get_vocab().keys():
        model.generation_config.eos_token_id = stop_token_ids(tokenizer)
