"""From one dial to every number of a run, each with its reason: horizon, batch, learning rates, schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from recipes.training.arguments import THREE_RATES, LoopArguments, MidtrainArguments, PretrainArguments
from recipes.training.memory import choose_device_batch
from recipes.training.optimizers import OptimizerSettings
from recipes.training.schedule import Schedule
from recipes.utils.errors import InputError
from recipes.utils.model_facts import ModelFacts

REFERENCE_WIDTH = 768  # width at which nanochat's learning rates of the embedding and the head were tuned
REFERENCE_BATCH = 2**19  # tokens a step at which all of them were tuned
REFERENCE_TOKENS = 20 * 185_597_952  # horizon of a d12 at vocabulary 65,536: where 2^19 tokens a step are right
MIN_STEPS = 400  # below this a smaller batch learns more: measured in benchmarks/RESULTS.md, "Batch size"
# nanochat's settings were tuned for billions of tokens. A short run learns more with larger steps that shrink during
# most of it, and with less momentum: measured in RESULTS.md, "Short runs", on 0.8 million tokens in steps of 8,192.
# The number of tokens decides, not of steps: midtraining on GPUs takes fewer than 1,000 steps for 400 million tokens.
# In between, where nothing was measured, settings change gradually with the logarithm of the number of tokens.
SHORT_RUN_TOKENS = 2_000_000  # up to here, all of the short run's: the cpu preset has 1.9 million
LONG_RUN_TOKENS = 200_000_000  # from here, all of nanochat's
SHORT_RUN_LEARNING_RATES = 2.0  # times the given ones
MOMENTUM_START, MOMENTUM, SHORT_RUN_MOMENTUM = 0.85, 0.95, 0.7
WARMDOWN, SHORT_RUN_WARMDOWN = 0.2, 0.75


class LearningRates(Protocol):
    """Arguments that hold learning rates tuned at a width of 768."""

    matrix_lr: float
    embedding_lr: float
    unembedding_lr: float


@dataclass(frozen=True)
class Plan:
    """Every number of a run; `reasons` says where each comes from."""

    facts: ModelFacts
    num_steps: int
    total_batch_size: int  # tokens a step, all processes
    device_batch_size: int  # rows a process handles at a time
    max_seq_len: int
    world_size: int
    optimizer: OptimizerSettings
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
        rates = {name: getattr(self.optimizer, name) * fraction for name in THREE_RATES}
        optimizer = replace(self.optimizer, **rates)
        reasons = {name: f"{self.reasons[name]} x init_lr_frac {fraction:g}" for name in rates}
        return replace(self, optimizer=optimizer, reasons=self.reasons | reasons)

    def lines(self) -> list[str]:
        """The plan as lines to print: each number with its reason."""
        counts = ", ".join(f"{name} {count:,}" for name, count in self.facts.parameter_counts.items())
        micro = f"{self.device_batch_size} rows x {self.max_seq_len:,} tokens x {self.world_size} processes"
        rows = [
            ("model", self.facts.name),
            ("parameters", f"{self.facts.num_parameters:,}: {counts}"),
            *self._frozen(),
            *([("trained", self.facts.adapters.line(self.facts.num_parameters))] if self.facts.adapters else []),
            ("compute", f"{self.facts.flops_per_token:,} FLOPs a token, {self.num_flops:.2e} in all"),
            ("horizon", f"{self.num_tokens:,} tokens: {self.reasons['horizon']}"),
            ("batch", f"{self.total_batch_size:,} tokens a step: {self.reasons['batch']}"),
            ("", f"= {micro} x {self.accumulation_steps} accumulated; rows: {self.reasons['device_batch']}"),
            ("steps", f"{self.num_steps:,}"),
            ("matrix lr", f"{self.optimizer.matrix_lr:.6g}: {self.reasons['matrix_lr']}"),
            (
                "momentum",
                f"{self.optimizer.momentum_start:.3g} to {self.optimizer.momentum:.3g}: {self.reasons['momentum']}",
            ),
            ("embedding lr", f"{self.optimizer.embedding_lr:.6g}: {self.reasons['embedding_lr']}"),
            ("head lr", f"{self.optimizer.unembedding_lr:.6g}: {self.reasons['unembedding_lr']}"),
            ("schedule", self.reasons["schedule"]),
        ]
        return [f"{label:<13}{text}" for label, text in rows]

    def _frozen(self) -> list[tuple[str, str]]:
        if not (frozen := self.facts.frozen):
            return []
        count, names = sum(frozen.values()), list(frozen)
        listed = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        trained = self.facts.num_parameters - count
        return [("frozen", f"{count:,} of them, in {len(names)} tensors ({listed}): {trained:,} are trained")]


def plan_training(
    args: LoopArguments,
    facts: ModelFacts,
    world_size: int,
    memory: float | None = None,
    source_tokens: int | None = None,
) -> Plan:
    """Derive a run from the dial. Raises `InputError` if the batch cannot be divided among the processes.

    Args:
        args: what was set by hand; the rest follows by rule.
        world_size: processes that train.
        memory: bytes of a GPU, which decide on `device_batch_size` where none is given; None on a CPU.
        source_tokens: of the run that trained the source, where there is one. A later stage keeps that run's settings,
            however short it is itself.
    """
    reasons: dict[str, str] = {}
    total_batch_size, device_batch_size = _plan_batch(args, facts, world_size, memory, reasons)
    num_steps = _plan_steps(args, facts, total_batch_size, reasons)
    length = RunLength(source_tokens or num_steps * total_batch_size, of_source=source_tokens is not None)
    # A larger batch allows a larger step. A smaller batch does not shrink it: short runs need every step.
    by_batch = max(1.0, total_batch_size / REFERENCE_BATCH) ** 0.5
    by_length = length.between(SHORT_RUN_LEARNING_RATES, 1.0)
    if args.learning_rate is None:
        rates = scale_learning_rates(args, facts, by_batch * by_length)
    else:
        rates = dict.fromkeys(THREE_RATES, args.learning_rate)
    optimizer = OptimizerSettings(
        **rates,
        weight_decay=args.weight_decay,
        momentum_start=length.between(SHORT_RUN_MOMENTUM, MOMENTUM_START),
        momentum=length.between(SHORT_RUN_MOMENTUM, MOMENTUM),
    )
    reasons |= _explain_optimizer(args, facts, by_batch, by_length, length)
    return Plan(
        facts=facts,
        num_steps=num_steps,
        total_batch_size=total_batch_size,
        device_batch_size=device_batch_size,
        max_seq_len=args.max_seq_len,
        world_size=world_size,
        optimizer=optimizer,
        schedule=_plan_schedule(args, num_steps, length, reasons),
        reasons=reasons,
    )


def plan_midtraining(
    args: MidtrainArguments,
    facts: ModelFacts,
    world_size: int,
    lengths: Sequence[int],
    one_pass: int,
    source_tokens: int | None,
    memory: float | None = None,
) -> Plan:
    """A run of `one_pass` steps over conversations of `lengths` tokens, or of `num_iterations` where that is set.

    Raises `InputError` if they do not fill a single step.
    """
    by_rule = args.num_iterations is None
    if by_rule and one_pass == 0:
        raise InputError(
            f"{args.conversations}: {len(lengths):,} conversations ({sum(lengths):,} tokens) are too few for "
            f"one step of {args.total_batch_size:,} tokens. Use more of them, or a smaller total_batch_size."
        )
    args = replace(args, num_iterations=args.num_iterations or one_pass)
    plan = plan_training(args, facts, world_size, memory, source_tokens)
    if by_rule:
        plan = replace(plan, reasons=plan.reasons | {"horizon": f"one pass over {len(lengths):,} conversations"})
    return plan.with_learning_rates_times(args.init_lr_frac)


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


def _plan_batch(
    args: LoopArguments, facts: ModelFacts, world_size: int, memory: float | None, reasons: dict[str, str]
) -> tuple[int, int]:
    """Tokens a step, and rows a process handles at a time."""
    row_tokens = args.max_seq_len * world_size  # the least that a step can hold: one row a process
    if args.total_batch_size is not None:
        reasons["batch"] = "total_batch_size"
        total = args.total_batch_size
    else:
        total = _batch_by_rule(args, facts, row_tokens, reasons)

    reasons["device_batch"] = "device_batch_size"
    if args.device_batch_size is None:
        check_batch(total, 1, args.max_seq_len, world_size)
        fitting = choose_device_batch(facts, args.max_seq_len, args.gradient_checkpointing, memory, args.optimizer)
        rows = largest_divisor(total // row_tokens, fitting)
        reasons["device_batch"] = "as fit by estimate" if memory else "as many as suit a CPU"
        if 2 * rows < min(fitting, total // row_tokens):
            reasons["device_batch"] = (
                f"{fitting} would fit, but {total // row_tokens} a process has no larger divisor: "
                "another total_batch_size trains faster"
            )
        return total, rows
    if args.total_batch_size is not None:
        check_batch(total, args.device_batch_size, args.max_seq_len, world_size)
        return total, args.device_batch_size
    rows = min(args.device_batch_size, total // row_tokens)
    return total // (rows * row_tokens) * (rows * row_tokens), rows


def _batch_by_rule(args: LoopArguments, facts: ModelFacts, row_tokens: int, reasons: dict[str, str]) -> int:
    """Tokens a step that suit the horizon, in whole rows for every process."""
    tokens, _ = _horizon_tokens(args, facts)
    if tokens is None:
        # The rule with D = steps x B on its right side, solved for B.
        scale = (args.num_iterations * REFERENCE_BATCH / REFERENCE_TOKENS) ** (0.383 / (1 - 0.383))
        by_rule, limit = REFERENCE_BATCH * scale, math.inf
    else:
        by_rule = REFERENCE_BATCH * (tokens / REFERENCE_TOKENS) ** 0.383
        limit = tokens / MIN_STEPS
    wanted = 2 ** round(math.log2(by_rule))
    reasons["batch"] = "2^19 x (tokens / a d12's 3.7B)^0.383, to a power of 2 (arXiv 2505.13738)"
    if wanted > limit:
        wanted = 2 ** math.floor(math.log2(limit))
        reasons["batch"] = f"so that a short run still makes {MIN_STEPS} steps"
    rows = max(1, int(wanted // row_tokens))
    # A multiple of a power of two, so that it divides well also where the number of processes does not: 43 rows would
    # only go 1 at a time, 32 go 16 at a time. The same on every card, for a run may be resumed on another.
    unit = min(32, 2 ** max(0, math.floor(math.log2(rows)) - 1))
    return rows // unit * unit * row_tokens


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


def scale_learning_rates(args: LearningRates, facts: ModelFacts, factor: float) -> dict[str, float]:
    """The learning rates of `args` for this model, times `factor`: the one rule of all stages.

    Rates of the embedding and the head fall with the square root of the width. They were tuned for an embedding that
    starts with a spread of 1; others take smaller steps in proportion.
    """
    width = (facts.hidden_size / REFERENCE_WIDTH) ** -0.5
    return {
        "matrix_lr": args.matrix_lr * factor,
        "embedding_lr": args.embedding_lr * width * factor * facts.embedding_std,
        "unembedding_lr": args.unembedding_lr * width * factor,
    }


def _explain_optimizer(
    args: LoopArguments, facts: ModelFacts, by_batch: float, by_length: float, length: RunLength
) -> dict[str, str]:
    by_scale = f" x {by_length:.3g} {length}" if by_length > 1 else ""
    if by_batch > 1:
        by_scale += f" x (batch / 2^19)^0.5 = {by_batch:.3g}"
    by_width = f"x (width {facts.hidden_size} / {REFERENCE_WIDTH})^-0.5{by_scale}"
    momentum = {"momentum": f"Muon's, {length}"}
    if args.learning_rate is not None:
        return momentum | dict.fromkeys(THREE_RATES, "learning_rate, the same for all weights, no rule applied")
    by_spread = f" x {facts.embedding_std:g}, the spread of its embedding" if facts.embedding_std != 1.0 else ""
    return {
        "matrix_lr": f"matrix_lr {args.matrix_lr:g}{by_scale}",
        "embedding_lr": f"embedding_lr {args.embedding_lr:g} {by_width}{by_spread}",
        "unembedding_lr": f"unembedding_lr {args.unembedding_lr:g} {by_width}",
    } | momentum
