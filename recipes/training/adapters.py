"""LoRA adapters: trained in place of a model's weights, and merged into them when training is done."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

import recipes.utils.quiet  # noqa: F401  (of peft, which warns of what it corrects by itself)
from recipes.utils import atomic
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.model_facts import Adapters, ModelFacts, linear_layers

if TYPE_CHECKING:  # imported where adapters are asked for: it is an extra, and takes seconds
    from peft import LoraConfig, PeftModel
    from trl import ModelConfig

ALL_LINEAR = "all-linear"  # peft's name for all linear layers but the head
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def lora_config(rank: int, alpha: int, dropout: float, target_modules: list[str] | None) -> "LoraConfig":
    """peft's configuration; without `target_modules` all linear layers but the head get adapters."""
    config_class = _import_peft().LoraConfig
    targets = ALL_LINEAR if target_modules in (None, [ALL_LINEAR]) else target_modules
    return config_class(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")


def add_lora(model: PreTrainedModel, config: "LoraConfig") -> "PeftModel":
    """`model` with fresh adapters, which alone are trained.

    Raises `InputError` if a target is not the name of a layer, or of one that cannot have an adapter.
    """
    layers = linear_layers(model)
    if not isinstance(config.target_modules, str):
        paths = [path for path, _ in model.named_modules()]
        for target in sorted(config.target_modules):
            if not any(f".{path}".endswith(f".{target}") for path in paths):
                names = ", ".join(dict.fromkeys(path.split(".")[-1] for path in layers))
                raise InputError(f"lora_target_modules: the model has no layer {target}; its linear ones are {names}.")
    # GPT-2's Conv1D holds its weights transposed. peft would see it by itself, and warn.
    config.fan_in_fan_out = any(isinstance(layer, Conv1D) for layer in layers.values())
    try:
        return _import_peft().get_peft_model(model, config)
    except ValueError as error:  # a layer of a kind that cannot have one, a pattern that matches nothing
        raise InputError(f"lora_target_modules: {in_one_line(error)}") from None


def facts_with_adapters(facts: ModelFacts, config: PretrainedConfig, lora: "LoraConfig") -> ModelFacts:
    """Facts of the model of `config` when adapters are trained: how many, and the FLOPs a token.

    A frozen weight takes 4 operations a token and not 6, since it gets no gradient of its own.
    Raises `InputError` as `add_lora` does; reads no weights.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        head = model.get_output_embeddings()
        frozen = sum(layer.weight.numel() for layer in [*linear_layers(model).values(), head])
        adapted = add_lora(model, lora)
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    names = dict.fromkeys(path.split(".")[-1] for path in adapted.targeted_module_names)
    adapters = Adapters(trained, lora.r, tuple(names))
    return replace(facts, flops_per_token=facts.flops_per_token - 2 * frozen + 6 * trained, adapters=adapters)


def add_adapters(model: PreTrainedModel, model_args: "ModelConfig") -> PreTrainedModel:
    """The model with LoRA adapters if `--use_peft` asks for them: on all linear layers where none are named."""
    quantized = model_args.load_in_4bit or model_args.load_in_8bit
    if not model_args.use_peft:
        if quantized:
            raise InputError("a model in 4 or 8 bits cannot be trained whole: add --use_peft.")
        return model
    peft = _import_peft()
    from trl import get_peft_config

    if quantized:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = get_peft_config(model_args)
    targets = config.target_modules or ALL_LINEAR
    if isinstance(targets, str) and targets != ALL_LINEAR and re.fullmatch(r"[\w.]+", targets):
        targets = {targets}  # TRL takes a single name out of its list, and peft would take it for a pattern of paths
    config.target_modules = targets
    return add_lora(model, config)


def base_model(model: PreTrainedModel) -> PreTrainedModel:
    """The model that the adapters, if there are any, were added to."""
    return model.get_base_model() if has_adapters(model) else model


def has_adapters(model: torch.nn.Module) -> bool:
    """Whether adapters are trained in place of the model's weights."""
    return hasattr(model, "peft_config")


def save_adapters(model: "PeftModel", directory: str | Path) -> None:
    """The adapters alone; not the embedding, which peft would add where it doubts that the Hub has the same."""
    model.save_pretrained(directory, save_embedding_layers=False)


def load_adapters(model: "PeftModel", directory: str | Path) -> None:
    """Put the weights that `save_adapters` wrote into the adapters of `model`. Raises `InputError` if they differ."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    if not Path(directory, ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{directory} holds no adapters, which this run trains: it is of a run that trains none.")
    weights = load_file(Path(directory, ADAPTER_WEIGHTS), device=str(model.device))
    mine = get_peft_model_state_dict(model, save_embedding_layers=False)
    if wrong := sorted(weights.keys() ^ mine.keys()):
        raise InputError(f"{directory} holds other adapters than this run trains: {wrong[0]} does not fit.")
    for name, weight in weights.items():
        if weight.shape != mine[name].shape:
            sizes = f"{name} is {tuple(weight.shape)} and not {tuple(mine[name].shape)}"
            raise InputError(f"{directory} holds other adapters than this run trains: {sizes}.")
    set_peft_model_state_dict(model, weights)


def save_and_merge(model: "PeftModel", adapter_dir: Path) -> PreTrainedModel:
    """Save the adapters to `adapter_dir`, and merge them into the model that they were trained on."""
    with atomic.new_directory(adapter_dir) as directory:
        save_adapters(model, directory)
    return model.merge_and_unload()


def merge_adapters(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, adapter_dir: Path
) -> PreTrainedModel:
    """Save the adapters to `adapter_dir`, and merge them into `source` in fp32 (it may have been quantized).

    A model without adapters is returned as it is.
    """
    if not has_adapters(model):
        return model
    from peft import PeftModel

    with atomic.new_directory(adapter_dir) as directory:
        model.save_pretrained(directory)
    base = type(model.get_base_model()).from_pretrained(source, dtype=torch.float32)
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer))
    return PeftModel.from_pretrained(base, adapter_dir).merge_and_unload()


def _import_peft():
    try:
        import peft
    except ImportError:
        raise InputError("--use_peft needs peft: pip install -e '.[peft]'.") from None
    return peft
