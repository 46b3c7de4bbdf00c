"""The numbers of each generation's rules, and the length of a run, which decides between them. Nothing heavy.

nanochat's settings were tuned for billions of tokens. A short run learns more with larger steps that shrink during
most of it, and with less momentum: measured in benchmarks/RESULTS.md, "Short runs", on 0.8 million tokens in steps of
8,192. The number of tokens decides, not of steps: midtraining on GPUs takes fewer than 1,000 steps for 400 million
tokens. In between, where nothing was measured, settings change gradually with the logarithm of the number of tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

SHORT_RUN_TOKENS = 2_000_000  # up to here, all of the short run's: the cpu preset has 1.9 million
LONG_RUN_TOKENS = 200_000_000  # from here, all of nanochat's

REFERENCE_WIDTH = 768  # width at which nanochat's learning rates of the embedding and the head were tuned
REFERENCE_DEPTH = 12  # of the model whose horizon suits REFERENCE_BATCH
REFERENCE_BATCH = 2**19  # tokens a step at which all of them were tuned
MIN_STEPS = 400  # below this a smaller batch learns more: measured in benchmarks/RESULTS.md, "Batch size"

OF_THE_DIAL = ("generation", "window_pattern")  # flags that shape the model, as depth does
THREE_RATES = ("matrix_lr", "embedding_lr", "unembedding_lr")  # those with a flag
ALL_RATES = (*THREE_RATES, "value_lr", "x0_lr", "resid_lr", "smear_lr")  # which the flag learning_rate replaces

Pair = tuple[float, float]  # for a short run, for a long one
AdamW = tuple[float, float, float]  # beta1, beta2, weight decay
Arguments = TypeVar("Arguments")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings of one generation. Pairs are (short run, long run); a long run's are nanochat's.

    Attributes:
        target_param_data_ratio: tokens for each parameter: of all of them in 2025, of the matrices of the blocks and
            the head in 2026.
        matrix_lr, embedding_lr, unembedding_lr: at width 768 and 2^19 tokens a step. A flag stands for a long run's,
            and a short run takes as many times of it as the pair says.
        value_share: of the embedding's learning rate, for the value embeddings.
        x0_lr, resid_lr: of x0_lambdas and resid_lambdas.
        smear_lr: of smear and backout, for any batch.
        shrinks_with_batch: learning rates grow with the square root of the batch above 2^19 tokens; whether those of
            a long run also fall with it below. A short run needs every step, and its own do not.
        weight_decay: of Muon's matrices, at 2^19 tokens a step and the horizon of a d12.
        adamw: betas and weight decay of AdamW's groups by role, where they are not Muon's own defaults.
        momentum_start, momentum, momentum_end: Muon's, at first, after its warmup, and at the end of the warmdown; no
            end means that it stays.
        warmup_steps, warmdown_ratio, final_lr_frac: of the learning rates.
        grad_clip: largest norm of the gradient; 0 for no limit.
        largest_batch: tokens a step that the rule for the batch does not go beyond.
    """

    generation: int
    window_pattern: str
    target_param_data_ratio: float
    matrix_lr: Pair
    embedding_lr: Pair
    unembedding_lr: Pair
    value_share: Pair = (0.0, 0.0)
    x0_lr: Pair = (0.0, 0.0)
    resid_lr: Pair = (0.0, 0.0)
    smear_lr: Pair = (0.0, 0.0)
    shrinks_with_batch: bool
    weight_decay: Pair
    cosine_weight_decay: bool = False
    adamw: Mapping[str, tuple[AdamW, AdamW]] = field(default_factory=dict)
    momentum_start: Pair
    momentum: Pair
    momentum_end: Pair | None = None
    momentum_warmup: int = 300
    warmup_steps: Pair
    warmdown_ratio: Pair
    final_lr_frac: Pair
    grad_clip: float
    largest_batch: int | None = None

    def flags(self) -> dict[str, Any]:
        """What flags that were not given stand for, where it is the same for a run of any length."""
        single = {name: getattr(self, name) for name in (*OF_THE_DIAL, "target_param_data_ratio", "grad_clip")}
        pairs = {name: getattr(self, name) for name in (*THREE_RATES, "weight_decay", "final_lr_frac")}
        return single | {name: long for name, (short, long) in pairs.items() if short == long or name in THREE_RATES}


CLASSIC: AdamW = (0.8, 0.95, 0.0)  # AdamW's betas and weight decay in 2025

# The short numbers of 2026 are measured in benchmarks/RESULTS.md, "Setting T". Momentum hardly matters there.
RULES = {
    2025: Rules(
        generation=2025,
        window_pattern="L",
        target_param_data_ratio=20.0,  # Chinchilla, arXiv 2203.15556
        matrix_lr=(0.04, 0.02),
        embedding_lr=(0.4, 0.2),
        unembedding_lr=(0.008, 0.004),
        shrinks_with_batch=False,
        weight_decay=(0.0, 0.0),
        momentum_start=(0.7, 0.85),
        momentum=(0.7, 0.95),
        warmup_steps=(0, 0),
        warmdown_ratio=(0.75, 0.2),
        final_lr_frac=(0.0, 0.0),
        grad_clip=1.0,
        largest_batch=2**19,  # nanochat's of 2025 at every depth: 21,400 steps of it at depth 20
    ),
    2026: Rules(
        generation=2026,
        window_pattern="SSSL",
        target_param_data_ratio=12.0,  # compute-optimal by nanochat's scaling laws; 8 for its d24 that passes GPT-2
        matrix_lr=(0.08, 0.02),
        embedding_lr=(0.6, 0.3),
        unembedding_lr=(0.008, 0.008),
        value_share=(1.0, 0.5),
        x0_lr=(0.05, 0.5),
        resid_lr=(0.005, 0.005),
        smear_lr=(0.05, 0.2),
        shrinks_with_batch=True,
        weight_decay=(0.0, 0.28),
        cosine_weight_decay=True,
        adamw={
            "head": (CLASSIC, (0.8, 0.96, 0.01)),
            "embedding": (CLASSIC, (0.8, 0.995, 0.001)),
            "value_embeddings": (CLASSIC, (0.8, 0.995, 0.01)),
            "resid_lambdas": (CLASSIC, (0.8, 0.95, 0.05)),
            "x0_lambdas": (CLASSIC, (0.96, 0.95, 0.0)),
            "smear_and_backout": (CLASSIC, (0.8, 0.95, 0.0)),
        },
        momentum_start=(0.7, 0.85),
        momentum=(0.7, 0.97),
        momentum_end=(0.7, 0.90),
        momentum_warmup=400,
        warmup_steps=(0, 40),
        warmdown_ratio=(0.75, 0.65),
        final_lr_frac=(0.05, 0.05),
        grad_clip=0.0,
    ),
}


def with_rules(args: Arguments, rules: Rules) -> Arguments:
    """`args` with what was not set filled in, as far as it does not depend on the length of the run."""
    by_dial = not (getattr(args, "model_config", None) or getattr(args, "model_name_or_path", None))
    flags = {name: value for name, value in rules.flags().items() if by_dial or name not in OF_THE_DIAL}
    unset = {name: value for name, value in flags.items() if getattr(args, name, value) is None}
    return replace(args, **unset) if unset else args


@dataclass(frozen=True)
class RunLength:
    """The length of a run in tokens, which decides between settings for short runs and nanochat's."""

    tokens: int
    of_source: bool = False

    def between(self, short: float, long: float) -> float:
        """`short` up to SHORT_RUN_TOKENS, `long` from LONG_RUN_TOKENS, interpolated by log(tokens) in between."""
        position = math.log(self.tokens / SHORT_RUN_TOKENS) / math.log(LONG_RUN_TOKENS / SHORT_RUN_TOKENS)
        share = min(1.0, max(0.0, position))
        return short * (1 - share) + long * share

    def __str__(self) -> str:
        kind = "short" if self.tokens <= SHORT_RUN_TOKENS else "long" if self.tokens >= LONG_RUN_TOKENS else "medium"
        return f"for a {kind} run ({self.tokens:,} tokens{', the source' if self.of_source else ''})"
