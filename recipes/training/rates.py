"""What a run's optimizer is given: learning rates scaled for the model, the batch and the run's length, and why."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from recipes.training.arguments import LoopArguments
from recipes.training.horizon import reference_tokens
from recipes.training.muon import MUON
from recipes.training.optimizers import OptimizerSettings
from recipes.training.rules import (
    ALL_RATES,
    LONG_RUN_TOKENS,
    REFERENCE_BATCH,
    REFERENCE_WIDTH,
    RULES,
    THREE_RATES,
    Rules,
    RunLength,
)
from recipes.utils.model_facts import ModelFacts


class LearningRates(Protocol):
    """Arguments that hold learning rates tuned at a width of 768."""

    matrix_lr: float
    embedding_lr: float
    unembedding_lr: float


class StageArguments(LearningRates, Protocol):
    """Arguments of SFT, DPO and GRPO."""

    init_lr_frac: float
    weight_decay: float


def scale_learning_rates(args: LearningRates, facts: ModelFacts, factors: Mapping[str, float]) -> dict[str, float]:
    """The learning rates of `args` for this model, each times its own factor: the one rule of all stages.

    Rates of the embedding and the head fall with the square root of the width. They were tuned for an embedding that
    starts with a certain spread, 1 in 2025; other architectures take smaller steps in proportion.
    """
    width = (facts.hidden_size / REFERENCE_WIDTH) ** -0.5
    return {
        "matrix_lr": args.matrix_lr * factors["matrix_lr"],
        "embedding_lr": args.embedding_lr * width * factors["embedding_lr"] * facts.embedding_std,
        "unembedding_lr": args.unembedding_lr * width * factors["unembedding_lr"],
    }


def posttraining_settings(args: StageArguments, facts: ModelFacts) -> OptimizerSettings:
    """The optimizer of SFT, DPO and GRPO: pretraining's of a long run, at `init_lr_frac` of its learning rates."""
    rules, fraction = RULES[facts.generation], args.init_lr_frac
    rates = scale_learning_rates(args, facts, dict.fromkeys(THREE_RATES, fraction))
    return OptimizerSettings(
        **rates,
        **rates_of_features(rules, RunLength(LONG_RUN_TOKENS), rates["embedding_lr"], fraction),
        weight_decay=args.weight_decay,
        muon=MUON[rules.generation],
        adamw=adamw_groups(rules, RunLength(LONG_RUN_TOKENS)),
    )


def plan_optimizer(
    args: LoopArguments, facts: ModelFacts, length: RunLength, total_batch_size: int, tokens: float
) -> tuple[OptimizerSettings, dict[str, str]]:
    """The optimizer of pretraining and midtraining, and the reason of each setting; `tokens` is the horizon."""
    rules = RULES[facts.generation]
    by_batch = _by_batch(rules, length, total_batch_size)
    by_length = {name: _by_length(getattr(rules, name), length) for name in THREE_RATES}
    if args.learning_rate is None:
        rates = scale_learning_rates(args, facts, {name: by_batch * each for name, each in by_length.items()})
        rates |= rates_of_features(rules, length, rates["embedding_lr"], by_batch)
        rates["smear_lr"] = length.between(*rules.smear_lr)  # for any batch
    else:
        rates = dict.fromkeys(ALL_RATES, args.learning_rate)
    weight_decay, why = _weight_decay(args, facts, rules, length, total_batch_size, tokens)
    settings = OptimizerSettings(
        **rates,
        weight_decay=weight_decay,
        momentum_start=length.between(*rules.momentum_start),
        momentum=length.between(*rules.momentum),
        muon=MUON[rules.generation],
        adamw=adamw_groups(rules, length),
    )
    by_scale = {name: _scale_in_words(each, length, by_batch, total_batch_size) for name, each in by_length.items()}
    of_scalars = " and ".join(f"{length.between(*pair):.3g}" for pair in (rules.x0_lr, rules.resid_lr))
    of_scalars += _scale_in_words(1.0, length, by_batch, total_batch_size)
    reasons = _explain_rates(args, facts, rules, by_scale) | {
        "value_lr": f"{length.between(*rules.value_share):.3g} of the embedding's, for the value embeddings",
        "scalars": f"{of_scalars}; smear's for any batch",
        "weight_decay": why,
    }
    if args.learning_rate is not None:
        reasons |= dict.fromkeys(("value_lr", "scalars"), reasons["matrix_lr"])
    if args.optimizer == "muon":
        reasons |= {"momentum": f"Muon's, {length}", "adamw": str(length)}
    elif args.optimizer == "adamw" and args.learning_rate is None:
        reasons["matrix_lr"] = "not used, adamw's matrices take the head's"
    return settings, reasons


def rates_of_features(rules: Rules, length: RunLength, embedding_lr: float, factor: float) -> dict[str, float]:
    """Learning rates of what only models of 2026 have; those of the scalars times `factor`."""
    return {
        "value_lr": embedding_lr * length.between(*rules.value_share),
        **{name: length.between(*getattr(rules, name)) * factor for name in ("x0_lr", "resid_lr", "smear_lr")},
    }


def _by_batch(rules: Rules, length: RunLength, total_batch_size: int) -> float:
    """How many times the learning rates of the reference batch suit this one."""
    root = (total_batch_size / REFERENCE_BATCH) ** 0.5
    if root >= 1:
        return root
    return length.between(1.0, root) if rules.shrinks_with_batch else 1.0


def _by_length(pair: tuple[float, float], length: RunLength) -> float:
    """How many times a long run's setting suits this run."""
    short, long = pair
    return length.between(short / long, 1.0)


def adamw_groups(rules: Rules, length: RunLength) -> dict[str, dict[str, Any]]:
    """Betas and weight decay of AdamW's groups by role, where the generation sets them."""
    groups = {}
    for role, (short, long) in rules.adamw.items():
        beta1, beta2, weight_decay = (length.between(*pair) for pair in zip(short, long, strict=True))
        groups[role] = {"betas": (beta1, beta2), "weight_decay": weight_decay}
    return groups


def _weight_decay(
    args: LoopArguments, facts: ModelFacts, rules: Rules, length: RunLength, total_batch_size: int, tokens: float
) -> tuple[float, str]:
    """Weight decay of the matrices: as given, or so that it forgets the same share of every run (arXiv 2405.13698).

    A step forgets learning rate x weight decay. So what a long run's rule says is divided by how much larger the
    learning rate of a shorter run is.
    """
    if args.weight_decay is not None:
        return args.weight_decay, f"weight_decay {args.weight_decay:g}"
    if args.optimizer != "muon" or args.learning_rate is not None:
        return 0.0, "its rule is for muon and its own learning rates"
    base = length.between(*rules.weight_decay)
    if base == 0:
        return 0.0, str(length)
    reference = reference_tokens(facts, getattr(args, "target_param_data_ratio", None))
    scaled = base * math.sqrt(total_batch_size / REFERENCE_BATCH) * (reference / tokens)
    why = f"{base:.3g} {length} x (batch / 2^19)^0.5 x (a d12's {reference / 1e9:.1f}B tokens / {tokens / 1e9:.3g}B)"
    here, there = (
        _by_length(rules.matrix_lr, each) * _by_batch(rules, each, total_batch_size)
        for each in (length, RunLength(LONG_RUN_TOKENS))
    )
    if here != there:
        why += f" / {here / there:.3g}, as matrix lr is that many times a long run's"
    return scaled * there / here, f"{why} (arXiv 2405.13698)"


def _scale_in_words(by_length: float, length: RunLength, by_batch: float, total_batch_size: int) -> str:
    by_scale = f" x {by_length:.3g} {length}" if by_length != 1 else ""
    if by_batch == 1:
        return by_scale
    if by_batch == (total_batch_size / REFERENCE_BATCH) ** 0.5:
        return f"{by_scale} x (batch / 2^19)^0.5 = {by_batch:.3g}"
    return f"{by_scale} x {by_batch:.3g}, by the run's length between 1 and (batch / 2^19)^0.5"


def _explain_rates(
    args: LoopArguments, facts: ModelFacts, rules: Rules, by_scale: Mapping[str, str]
) -> dict[str, str]:
    if args.learning_rate is not None:
        return dict.fromkeys(THREE_RATES, "learning_rate, the same for all weights, no rule applied")

    def base(name: str) -> str:
        value = getattr(args, name)
        source = "nanochat's" if value == getattr(rules, name)[1] else name  # a long run's, where no flag is given
        return f"{source} {value:g}"

    by_width = f"x (width {facts.hidden_size} / {REFERENCE_WIDTH})^-0.5"
    by_spread = f" x {facts.embedding_std:g}, the spread of its embedding" if facts.embedding_std != 1.0 else ""
    return {
        "matrix_lr": f"{base('matrix_lr')}{by_scale['matrix_lr']}",
        "embedding_lr": f"{base('embedding_lr')} {by_width}{by_scale['embedding_lr']}{by_spread}",
        "unembedding_lr": f"{base('unembedding_lr')} {by_width}{by_scale['unembedding_lr']}",
    }
