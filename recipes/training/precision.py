"""In which precision a step computes: by accelerate's autocast, by the model's own casts, or in fp8.

Weights, their gradients and the optimizer are always in fp32. Autocast computes matrix products in bf16. On a GPU it
also puts every norm, and with it the whole residual stream, into fp32, which moves and keeps twice the bytes. There
our own model computes in bf16 by itself: its embeddings are cast, and its linear layers follow their input. In fp8 the
blocks' products take about half the time of bf16, and each step learns a little less (both by nanochat's log).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import AORecipeKwargs, AutocastKwargs, KwargsHandler, is_torchao_available
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from modeling_nanochat import NanochatGPTConfig
from modeling_nanochat.layers_nanochat import Gate, Head, Linear
from recipes.utils.errors import InputError

FIRST_LINEAR = "model.layers.0.self_attn.q_proj"  # left in bf16, as the head is: the two that fp8 harms most


def precision_handlers(
    precision: str, device: torch.device, config: PretrainedConfig, adapters: bool = False
) -> list[KwargsHandler]:
    """What tells accelerate how to compute a model of this config; `adapters` are peft's, which need autocast."""
    handlers: list[KwargsHandler] = []
    own_casts = isinstance(config, NanochatGPTConfig) and not adapters and precision in ("bf16", "fp8")
    if own_casts and device.type == "cuda":
        handlers.append(AutocastKwargs(enabled=False))
    if precision == "fp8":
        handlers.append(fp8_recipe())
    return handlers


def set_compute_dtype(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Let `model` compute in bf16 by itself where autocast is off."""
    if accelerator.autocast_handler is not None and not accelerator.autocast_handler.enabled:
        compute_in_bf16(model)


def compute_in_bf16(model: PreTrainedModel) -> None:
    """Compute in bf16 without touching the dtype of the weights. `model` must be a NanochatGPT."""
    model.base_model.compute_dtype = torch.bfloat16
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # which adds nothing but the cast of its weight


def fp8_recipe(emulate: bool = False) -> AORecipeKwargs:
    """torchao's products in fp8, with one scale a tensor; `emulate` computes them by others, for any device.

    Scales by rows are more exact and, by nanochat's measurements, no faster than bf16. accelerate's own default would
    make the weights a class that neither Muon nor `save_pretrained` can read.
    """
    from torchao.float8 import Float8LinearConfig

    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)  # for numbers of tokens that 16 does not divide
    return AORecipeKwargs(config=config, module_filter_func=suits_fp8)


def suits_fp8(module: nn.Module, name: str) -> bool:
    """Whether to convert a layer to fp8: all matrices of the blocks except the first one and the gates."""
    if not isinstance(module, nn.Linear) or isinstance(module, Gate | Head) or name == FIRST_LINEAR:
        return False
    return module.in_features % 16 == 0 and module.out_features % 16 == 0  # which the products require


def check_fp8(precision: str, config: PretrainedConfig, from_depth: int, adapters: bool = False) -> None:
    """Raise `InputError` if this model should not, or cannot, train in fp8."""
    if precision != "fp8":
        return
    if not isinstance(config, NanochatGPTConfig) or adapters:
        what = "LoRA" if adapters else f"models of type {config.model_type}"
        raise InputError(f"mixed_precision fp8 does not train {what}: leave it out.")
    if config.num_hidden_layers < from_depth:
        raise InputError(
            f"mixed_precision fp8 gains speed from a depth of about {from_depth}, and this model has "
            f"{config.num_hidden_layers}: leave it out, or add --fp8_from_depth {config.num_hidden_layers}."
        )
    if not is_torchao_available():
        raise InputError("mixed_precision fp8 needs torchao: pip install torchao, or leave it out.")


def without_fp8(model: PreTrainedModel, precision: str) -> Callable[[], AbstractContextManager]:
    """A context in which `model` computes in bf16 all that it trains in fp8, as its checkpoints will.

    Call before accelerate prepares the model, which takes the place of its linear layers but keeps their weights.
    """
    if precision != "fp8":
        return nullcontext
    plain = {name: module for name, module in model.named_modules() if suits_fp8(module, name)}

    @contextmanager
    def swapped():
        trained = swap(model, plain)
        try:
            yield
        finally:
            swap(model, trained)

    return swapped


def swap(model: nn.Module, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Put `modules` into `model` by their names; returns those that were there."""
    former = {name: model.get_submodule(name) for name in modules}
    for name, module in modules.items():
        model.set_submodule(name, module)
    return former
