"""From one dial to every number of a run, each with its reason: horizon, batch, learning rates, memory, cost."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

from recipes.training.arguments import LoopArguments, PretrainArguments
from recipes.training.optimizers import OptimizerSettings
from recipes.training.schedule import Schedule
from recipes.utils.errors import InputError
from recipes.utils.hardware import GPUS, gpu_figures, this_cpu
from recipes.utils.model_facts import ModelFacts

REFERENCE_WIDTH = 768  # width at which nanochat's learning rates of the embedding and the head were tuned
REFERENCE_BATCH = 2**19  # tokens a step at which all of them were tuned
REFERENCE_TOKENS = 20 * 185_597_952  # horizon of a d12 at vocabulary 65,536: where 2^19 tokens a step are right
MIN_STEPS = 400  # below this a smaller batch learns more: measured in benchmarks/RESULTS.md, "Batch size"
# nanochat's settings were tuned for billions of tokens. A run of few learns more with larger steps that fall over most
# of it, and with less momentum to lag behind: measured in the same place, "Short runs", on 0.8 million tokens in steps
# of 8,192. Tokens decide and not steps: midtraining on GPUs takes fewer than 1,000 steps for its 400 million tokens.
# In between nothing was measured: the settings turn from one kind to the other with the logarithm of the tokens.
SHORT_RUN_TOKENS = 2_000_000  # up to here, all of the short run's: the cpu preset has 1.9 million
LONG_RUN_TOKENS = 200_000_000  # from here, all of nanochat's
SHORT_RUN_LEARNING_RATES = 2.0  # times the given ones
MOMENTUM_START, MOMENTUM, SHORT_RUN_MOMENTUM = 0.85, 0.95, 0.7
WARMDOWN, SHORT_RUN_WARMDOWN = 0.2, 0.75
ASSUMED_MFU = 0.4  # of the peak, for the estimate of a dry run


class LearningRates(Protocol):
    """Arguments with learning rates as they are tuned at a width of 768."""

    matrix_lr: float
    embedding_lr: float
    unembedding_lr: float


@dataclass(frozen=True)
class Plan:
    """A run in numbers; `reasons` says where each comes from."""

    facts: ModelFacts
    num_steps: int
    total_batch_size: int  # tokens a step, all processes
    device_batch_size: int  # rows a process handles at a time
    max_seq_len: int
    world_size: int
    settings: OptimizerSettings
    schedule: Schedule
    reasons: dict[str, str]

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole run."""
        return self.num_steps * self.total_batch_size

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches a process runs for each optimizer step."""
        return self.total_batch_size // (self.device_batch_size * self.max_seq_len * self.world_size)

    @property
    def num_flops(self) -> float:
        """Floating-point operations of the whole run."""
        return float(self.num_tokens) * self.facts.flops_per_token

    def with_device_batch_size(self, rows: int) -> "Plan":
        """The same run with fewer rows at a time and more accumulation: the same steps up to rounding."""
        return replace(self, device_batch_size=rows)

    def with_learning_rates_times(self, fraction: float) -> "Plan":
        """The same run with all learning rates smaller or larger."""
        if fraction == 1:
            return self
        rates = ("matrix_lr", "embedding_lr", "unembedding_lr")
        settings = replace(self.settings, **{name: getattr(self.settings, name) * fraction for name in rates})
        reasons = {name: f"{self.reasons[name]} x init_lr_frac {fraction:g}" for name in rates}
        return replace(self, settings=settings, reasons=self.reasons | reasons)

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        counts = ", ".join(f"{name} {count:,}" for name, count in self.facts.parameter_counts.items())
        micro = f"{self.device_batch_size} rows x {self.max_seq_len:,} tokens x {self.world_size} processes"
        rows = [
            ("model", self.facts.name),
            ("parameters", f"{self.facts.num_parameters:,}: {counts}"),
            ("compute", f"{self.facts.flops_per_token:,} FLOPs a token, {self.num_flops:.2e} in all"),
            ("horizon", f"{self.num_tokens:,} tokens: {self.reasons['horizon']}"),
            ("batch", f"{self.total_batch_size:,} tokens a step: {self.reasons['batch']}"),
            ("", f"= {micro} x {self.accumulation_steps} accumulated"),
            ("steps", f"{self.num_steps:,}"),
            ("matrix lr", f"{self.settings.matrix_lr:.6g}: {self.reasons['matrix_lr']}"),
            (
                "momentum",
                f"{self.settings.momentum_start:.3g} to {self.settings.momentum:.3g}: {self.reasons['momentum']}",
            ),
            ("embedding lr", f"{self.settings.embedding_lr:.6g}: {self.reasons['embedding_lr']}"),
            ("head lr", f"{self.settings.unembedding_lr:.6g}: {self.reasons['unembedding_lr']}"),
            ("schedule", self.reasons["schedule"]),
        ]
        return [f"{label:<13}{text}" for label, text in rows]


def plan_training(args: LoopArguments, facts: ModelFacts, world_size: int, source_tokens: int | None = None) -> Plan:
    """Derive the run from the dial. Raises `InputError` if the batch cannot be divided among the processes.

    A stage that goes on from a run of `source_tokens` tokens keeps that run's settings, however short it is itself.
    """
    reasons: dict[str, str] = {}
    total_batch_size, device_batch_size = _plan_batch(args, facts, world_size, reasons)
    num_steps = _plan_steps(args, facts, total_batch_size, reasons)
    length = RunLength(source_tokens or num_steps * total_batch_size, of_source=source_tokens is not None)
    return Plan(
        facts=facts,
        num_steps=num_steps,
        total_batch_size=total_batch_size,
        device_batch_size=device_batch_size,
        max_seq_len=args.max_seq_len,
        world_size=world_size,
        settings=_plan_optimizer(args, facts, total_batch_size, length, reasons),
        schedule=_plan_schedule(args, num_steps, length, reasons),
        reasons=reasons,
    )


@dataclass(frozen=True)
class RunLength:
    """Which settings a run takes: those for few tokens, nanochat's, or some in between."""

    tokens: int
    of_source: bool = False

    def between(self, short: float, long: float) -> float:
        """`short` up to SHORT_RUN_TOKENS, `long` from LONG_RUN_TOKENS, in between by the tokens' logarithm."""
        position = math.log(self.tokens / SHORT_RUN_TOKENS) / math.log(LONG_RUN_TOKENS / SHORT_RUN_TOKENS)
        share = min(1.0, max(0.0, position))
        return short * (1 - share) + long * share

    def __str__(self) -> str:
        kind = "short" if self.tokens <= SHORT_RUN_TOKENS else "long" if self.tokens >= LONG_RUN_TOKENS else "medium"
        return f"for a {kind} run ({self.tokens:,} tokens{', the source' if self.of_source else ''})"


def _horizon_tokens(args: PretrainArguments, facts: ModelFacts) -> tuple[float | None, str]:
    """Tokens of the run and why; None where only the number of steps is known."""
    if args.num_iterations is not None:
        return None, f"num_iterations {args.num_iterations:,}"
    if args.target_flops is not None:
        return args.target_flops / facts.flops_per_token, f"target_flops {args.target_flops:.3g}"
    if args.target_param_data_ratio is not None:
        ratio = args.target_param_data_ratio
        return ratio * facts.num_parameters, f"{ratio:g} a parameter (target_param_data_ratio)"
    raise InputError("no horizon: set num_iterations, target_flops or target_param_data_ratio.")


def _plan_batch(args: LoopArguments, facts: ModelFacts, world_size: int, reasons: dict[str, str]) -> tuple[int, int]:
    """Tokens a step, and rows a process at a time."""
    row_tokens = args.max_seq_len * world_size  # the least a step can hold: one row a process
    if args.total_batch_size is not None:
        check_batch(args.total_batch_size, args.device_batch_size, args.max_seq_len, world_size)
        reasons["batch"] = "total_batch_size"
        return args.total_batch_size, args.device_batch_size

    tokens, _ = _horizon_tokens(args, facts)
    if tokens is None:
        # The rule with D = steps x B on its right side, solved for B.
        scale = (args.num_iterations * REFERENCE_BATCH / REFERENCE_TOKENS) ** (0.383 / (1 - 0.383))
        by_rule, limit = REFERENCE_BATCH * scale, math.inf
    else:
        by_rule = REFERENCE_BATCH * (tokens / REFERENCE_TOKENS) ** 0.383
        limit = tokens / MIN_STEPS
    wanted = 2 ** round(math.log2(by_rule))
    reason = "2^19 x (tokens / a d12's 3.7B)^0.383, to a power of 2 (arXiv 2505.13738)"
    if wanted > limit:
        wanted, reason = 2 ** math.floor(math.log2(limit)), f"so that a short run still makes {MIN_STEPS} steps"
    rows = max(1, wanted // row_tokens)
    device_batch_size = min(args.device_batch_size, rows)
    reasons["batch"] = reason
    return rows // device_batch_size * device_batch_size * row_tokens, device_batch_size


def check_batch(total_batch_size: int, device_batch_size: int, max_seq_len: int, world_size: int) -> None:
    """Raise `InputError`, naming the nearest values that work, unless every process gets whole micro-batches."""
    micro = device_batch_size * max_seq_len * world_size
    if total_batch_size >= micro and total_batch_size % micro == 0:
        return
    below = total_batch_size // micro * micro
    nearest = [value for value in (below, below + micro) if value]
    raise InputError(
        f"total_batch_size {total_batch_size} is not a multiple of {micro} (device_batch_size {device_batch_size} x "
        f"max_seq_len {max_seq_len} x {world_size} process{'es' if world_size > 1 else ''}). "
        f"Nearest that work: {', '.join(map(str, nearest))}."
    )


def next_smaller(plan: Plan, rows: int) -> int:
    """The largest number of rows up to half of `rows` that still divides the batch; 0 if there is none."""
    return largest_divisor(plan.total_batch_size // (plan.max_seq_len * plan.world_size), rows // 2)


def largest_divisor(rows: int, at_most: int) -> int:
    """The largest number up to `at_most` that divides `rows`; 0 if there is none."""
    return next((number for number in range(min(rows, at_most), 0, -1) if rows % number == 0), 0)


def _plan_steps(args: LoopArguments, facts: ModelFacts, total_batch_size: int, reasons: dict[str, str]) -> int:
    tokens, reasons["horizon"] = _horizon_tokens(args, facts)
    return args.num_iterations if tokens is None else max(1, round(tokens / total_batch_size))


def _plan_schedule(args: LoopArguments, num_steps: int, length: RunLength, reasons: dict[str, str]) -> Schedule:
    warmup = args.warmup_ratio or 0.0
    by_rule = min(length.between(SHORT_RUN_WARMDOWN, WARMDOWN), 1 - warmup)
    schedule = Schedule(
        num_steps=num_steps,
        warmup_ratio=warmup,
        warmdown_ratio=by_rule if args.warmdown_ratio is None else args.warmdown_ratio,
        final_fraction=args.final_lr_frac,
    )
    reasons["schedule"] = (
        f"{schedule.warmup_ratio:.0%} warmup, constant, the last {schedule.warmdown_ratio:.0%} linear to "
        f"{schedule.final_fraction:.0%}: {length if args.warmdown_ratio is None else 'as given'}"
    )
    return schedule


def _plan_optimizer(
    args: LoopArguments, facts: ModelFacts, total_batch_size: int, length: RunLength, reasons: dict[str, str]
) -> OptimizerSettings:
    # A larger batch is worth a larger step. A smaller one comes with a short run, which has no steps to waste.
    batch = max(1.0, total_batch_size / REFERENCE_BATCH) ** 0.5
    by_length = length.between(SHORT_RUN_LEARNING_RATES, 1.0)
    by_scale = f" x {by_length:.3g} {length}" if by_length > 1 else ""
    if batch > 1:
        by_scale += f" x (batch / 2^19)^0.5 = {batch:.3g}"
    by_width = f"x (width {facts.hidden_size} / {REFERENCE_WIDTH})^-0.5{by_scale}"
    reasons["matrix_lr"] = f"matrix_lr {args.matrix_lr:g}{by_scale}"
    reasons["embedding_lr"] = f"embedding_lr {args.embedding_lr:g} {by_width}"
    reasons["unembedding_lr"] = f"unembedding_lr {args.unembedding_lr:g} {by_width}"
    if facts.embedding_std != 1.0:
        reasons["embedding_lr"] += f" x {facts.embedding_std:g}, the spread of its embedding"
    reasons["momentum"] = f"Muon's, {length}"
    return OptimizerSettings(
        **scale_learning_rates(args, facts, batch * by_length),
        weight_decay=args.weight_decay,
        momentum_start=length.between(SHORT_RUN_MOMENTUM, MOMENTUM_START),
        momentum=length.between(SHORT_RUN_MOMENTUM, MOMENTUM),
    )


def scale_learning_rates(args: LearningRates, facts: ModelFacts, factor: float) -> dict[str, float]:
    """The learning rates of `args` for this model, times `factor`."""
    width = (facts.hidden_size / REFERENCE_WIDTH) ** -0.5
    return {
        "matrix_lr": args.matrix_lr * factor,
        "embedding_lr": args.embedding_lr * width * factor * facts.embedding_std,
        "unembedding_lr": args.unembedding_lr * width * factor,
    }


def estimate_memory(plan: Plan, gradient_checkpointing: bool) -> dict[str, float]:
    """Bytes a GPU needs, by purpose, for bf16 autocast with replicated fp32 weights (DDP)."""
    facts, tokens = plan.facts, plan.device_batch_size * plan.max_seq_len
    in_blocks = sum(
        facts.parameter_counts.get(name, 0) for name in ("attention", "mlp", "matrices", "transposed matrices")
    )
    rest = facts.num_parameters - in_blocks
    # Kept for backward, bytes a token and unit of width in a block: two fp32 residual streams (8), bf16 inputs of the
    # four products (2 + 2 + 2 + 8), queries, keys and values before and after rotation and norm (10), fc1's (8).
    kept = 8 if gradient_checkpointing else 40
    return {
        "weights": 6.0 * facts.num_parameters,  # fp32, and their bf16 copies
        "gradients": 4.0 * facts.num_parameters,
        "optimizer": 4.0 * in_blocks + 8.0 * rest,
        "activations": float(kept) * tokens * facts.num_layers * facts.hidden_size,
        # Three copies of a chunk of logits, and the head's gradient before it is added to the others.
        "loss": 3.0 * min(2**30, 4 * tokens * facts.vocab_size) + 8.0 * facts.vocab_size * facts.hidden_size,
    }


def dry_run_lines(args: PretrainArguments, plan: Plan) -> list[str]:
    """What a run on `args.gpus` x `args.gpu_name` would need: memory, hours and cost. Raises for an unknown GPU."""
    figures = this_cpu() if args.gpu_name == "cpu" else gpu_figures(args.gpu_name)
    if figures is None:
        raise InputError(f"unknown gpu_name {args.gpu_name!r}: known are cpu (this machine), {', '.join(GPUS)}.")
    peak, capacity = figures
    parts = {name: size / 1e9 for name, size in estimate_memory(plan, args.gradient_checkpointing).items()}
    hours = plan.num_flops / (args.gpus * peak * ASSUMED_MFU) / 3600
    total = sum(parts.values())
    listed = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    fits = "fits" if total < 0.95 * capacity else "too much: lower device_batch_size or use gradient_checkpointing"
    lines = [
        f"{'memory':<13}about {total:.0f} GB of {capacity:.0f} a device ({fits}): {listed}",
        f"{'time':<13}about {hours:.2f} h on {args.gpus} x {args.gpu_name}, assuming {ASSUMED_MFU:.0%} of its peak",
    ]
    if args.price_per_gpu_hour is not None:
        cost = hours * args.gpus * args.price_per_gpu_hour
        lines.append(f"{'cost':<13}about ${cost:,.2f} at ${args.price_per_gpu_hour:g} a GPU hour")
    return lines
