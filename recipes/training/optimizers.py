"""Optimizers by name: ours, or a function of the user's that is imported as MODULE:FUNCTION (docs/optimizers.md)."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from recipes.training.muon import MUON_2025, Muon, MuonSteps
from recipes.training.rules import RULES
from recipes.utils.errors import InputError
from recipes.utils.hardware import has_bf16
from recipes.utils.model_facts import split_parameters

# What each AdamW group of a long run of 2026 takes instead of Muon's defaults, by role (see `split_parameters`).
ADAMW_2026 = {role: {"betas": long[:2], "weight_decay": long[2]} for role, (_, long) in RULES[2026].adamw.items()}


@dataclass(frozen=True)
class OptimizerSettings:
    """Learning rates after all scaling, and the other settings of an optimizer.

    The defaults are the Muon and AdamW of 2025; those of 2026 are `muon=MUON_2026, adamw=ADAMW_2026`.
    """

    matrix_lr: float = 0.02
    embedding_lr: float = 0.2
    unembedding_lr: float = 0.004
    weight_decay: float = 0.0
    momentum_start: float = 0.85  # Muon's, rising to `momentum` over its first 300 steps
    momentum: float = 0.95
    value_lr: float = 0.1  # of the value embeddings
    x0_lr: float = 0.5  # of x0_lambdas
    resid_lr: float = 0.005  # of resid_lambdas
    smear_lr: float = 0.2  # of smear and backout
    muon: MuonSteps = MUON_2025  # which steps Muon takes
    adamw: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of AdamW groups by role


OptimizerBuilder = Callable[[nn.Module, OptimizerSettings], torch.optim.Optimizer]
_BUILDERS: dict[str, OptimizerBuilder] = {}


def register_optimizer(name: str) -> Callable[[OptimizerBuilder], OptimizerBuilder]:
    """Decorator that makes `--optimizer name` build with the decorated function."""

    def register(builder: OptimizerBuilder) -> OptimizerBuilder:
        _BUILDERS[name] = builder
        return builder

    return register


def build_optimizer(name: str, model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer called `name` over all trainable parameters of `model`.

    Raises `InputError` if there is none of that name (see `find_builder`), or if its builder returns something else.
    """
    optimizer = find_builder(name)(model, settings)
    if not isinstance(optimizer, torch.optim.Optimizer):
        builder, kind = name.partition(":")[2] or "its builder", type(optimizer).__name__
        raise InputError(f"optimizer {name}: {builder} returned a {kind}, not a torch.optim.Optimizer.")
    return optimizer


def shard_over_ranks(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> None:
    """Let each process keep and update its share of Muon's state (training/sharding.py); other optimizers keep all.

    Only for loops whose checkpoints are written by all processes: transformers' Trainer saves the first one's alone.
    """
    if type(optimizer) is Muon:  # a subclass may keep states of its own
        optimizer.shard_state(accelerator.process_index, accelerator.num_processes)


def find_builder(name: str) -> OptimizerBuilder:
    """What builds the optimizer called `name`: a registered function, or MODULE:FUNCTION, which is imported.

    Raises `InputError` if it is unknown, cannot be found, or cannot be called.
    """
    if ":" in name:
        return _import_builder(name)
    if name not in _BUILDERS:
        raise InputError(
            f"unknown optimizer {name!r}: registered are {', '.join(sorted(_BUILDERS))}; "
            "another one is imported as MODULE:FUNCTION."
        )
    return _BUILDERS[name]


def _import_builder(name: str) -> OptimizerBuilder:
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise InputError(f"optimizer {name!r} is not MODULE:FUNCTION, as in my_package.my_module:build.")
    if not {"", os.getcwd()} & set(sys.path):  # a script's path begins with the script's directory, not with ours
        sys.path.append(os.getcwd())
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"optimizer {name}: no module {error.name} in {os.getcwd()} or among the installed packages."
            ) from None
        raise InputError(f"optimizer {name}: {module_name} needs {error.name}, which is not installed.") from None
    if not hasattr(module, function_name):
        raise InputError(f"optimizer {name}: module {module_name} has no {function_name}.")
    builder = getattr(module, function_name)
    if not callable(builder):
        raise InputError(f"optimizer {name}: {function_name} is not a function but of type {type(builder).__name__}.")
    return builder


@register_optimizer("muon")
def build_muon(model: nn.Module, settings: OptimizerSettings) -> Muon:
    """Muon for the matrices, AdamW for the rest, with nanochat's settings."""
    roles = split_parameters(model)
    matrix: dict[str, Any] = {
        "kind": "muon",
        "lr": settings.matrix_lr,
        "weight_decay": settings.weight_decay,
        "momentum_start": settings.momentum_start,
        "momentum": settings.momentum,
        **asdict(settings.muon),
    }
    rates = {
        "embedding": settings.embedding_lr,
        "head": settings.unembedding_lr,
        "others": settings.unembedding_lr,
        **_rates_of_features(settings),
    }
    groups = [
        {**matrix, "params": roles["matrices"]},
        {**matrix, "params": roles["transposed_matrices"], "transposed": True},
        *(
            {"kind": "adamw", "params": roles[role], "lr": rates[role], **settings.adamw.get(role, {})}
            for role in rates
        ),
    ]
    dtype = torch.bfloat16 if has_bf16(next(model.parameters()).device) else torch.float32
    return Muon([group for group in groups if group["params"]], orthogonalize_dtype=dtype)


@register_optimizer("adamw")
def build_adamw(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """torch's fused AdamW: decay on the matrices only, and other roles at their own learning rates."""
    roles = split_parameters(model)
    matrices = roles["matrices"] + roles["transposed_matrices"]
    groups = [
        {"params": matrices, "lr": settings.unembedding_lr, "weight_decay": settings.weight_decay},
        {"params": roles["embedding"], "lr": settings.embedding_lr},
        {"params": roles["head"] + roles["others"], "lr": settings.unembedding_lr},
        *({"params": roles[role], "lr": rate} for role, rate in _rates_of_features(settings).items()),
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True
    )


def _rates_of_features(settings: OptimizerSettings) -> dict[str, float]:
    """Learning rates of what only models of 2026 have, by role."""
    return {
        "value_embeddings": settings.value_lr,
        "resid_lambdas": settings.resid_lr,
        "x0_lambdas": settings.x0_lr,
        "smear_and_backout": settings.smear_lr,
    }
