"""From one dial to every number of a run, each with its reason: horizon, batch, learning rates, schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recipes.training.arguments import LoopArguments, MidtrainArguments
from recipes.training.horizon import horizon_tokens, largest_divisor, plan_batch, plan_steps
from recipes.training.optimizers import OptimizerSettings
from recipes.training.rates import plan_optimizer
from recipes.training.rules import ALL_RATES, RULES, THREE_RATES, Rules, RunLength, with_rules
from recipes.training.schedule import Schedule
from recipes.utils.errors import InputError
from recipes.utils.model_facts import ModelFacts


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
        optimizer = replace(self.optimizer, **{name: getattr(self.optimizer, name) * fraction for name in ALL_RATES})
        reasons = {
            name: f"{self.reasons[name]} x init_lr_frac {fraction:g}" for name in (*THREE_RATES, "value_lr", "scalars")
        }
        return replace(self, optimizer=optimizer, reasons=self.reasons | reasons)

    def lines(self) -> list[str]:
        """The plan as lines to print: each number with its reason."""
        counts = ", ".join(f"{name} {count:,}" for name, count in self.facts.parameter_counts.items())
        micro = f"{self.device_batch_size} rows x {self.max_seq_len:,} tokens x {self.world_size} processes"
        optimizer, is_2026 = self.optimizer, self.facts.generation == 2026
        rows = [
            ("model", self.facts.name),
            ("parameters", f"{self.facts.num_parameters:,}: {counts.replace('_', ' ')}"),
            *self._frozen(),
            *([("trained", self.facts.adapters.line(self.facts.num_parameters))] if self.facts.adapters else []),
            *([("windows", self.facts.windows)] if self.facts.windows else []),
            ("compute", f"{self.facts.flops_per_token:,} FLOPs a token, {self.num_flops:.2e} in all"),
            ("horizon", f"{self.num_tokens:,} tokens: {self.reasons['horizon']}"),
            ("batch", f"{self.total_batch_size:,} tokens a step: {self.reasons['batch']}"),
            ("", f"= {micro} x {self.accumulation_steps} accumulated; rows: {self.reasons['device_batch']}"),
            ("steps", f"{self.num_steps:,}"),
            ("matrix lr", f"{optimizer.matrix_lr:.6g}: {self.reasons['matrix_lr']}"),
            *self._with_reason("momentum", "momentum", self._momentum()),
            ("embedding lr", f"{optimizer.embedding_lr:.6g}: {self.reasons['embedding_lr']}"),
            ("head lr", f"{optimizer.unembedding_lr:.6g}: {self.reasons['unembedding_lr']}"),
            *(self._of_2026() if is_2026 else []),
            ("schedule", self.reasons["schedule"]),
        ]
        return [f"{label:<13}{text}" for label, text in rows]

    def _momentum(self) -> str:
        text = f"{self.optimizer.momentum_start:.3g} to {self.optimizer.momentum:.3g}"
        if self.schedule.momentum is None or len(set(self.schedule.momentum)) == 1:
            return text
        return f"{text} in {self.schedule.momentum_warmup} steps, to {self.schedule.momentum[2]:.3g} in the warmdown"

    def _of_2026(self) -> list[tuple[str, str]]:
        """What only models and rules of 2026 have."""
        optimizer = self.optimizer
        scalars = f"{optimizer.x0_lr:.6g} (x0), {optimizer.resid_lr:.6g} (residual), {optimizer.smear_lr:.6g} (smear)"
        groups = "; ".join(
            f"{role.replace('_', ' ')} {each['betas'][0]:.3g}, {each['betas'][1]:.3g}, {each['weight_decay']:.2g}"
            for role, each in optimizer.adamw.items()
        )
        falling = ", by a cosine to 0" if optimizer.weight_decay else ""
        return [
            ("value lr", f"{optimizer.value_lr:.6g}: {self.reasons['value_lr']}"),
            ("scalar lr", f"{scalars}: {self.reasons['scalars']}"),
            ("weight decay", f"{optimizer.weight_decay:.6g}{falling}: {self.reasons['weight_decay']}"),
            *self._with_reason("adamw", "adamw", f"betas and decay of {groups}"),
        ]

    def _with_reason(self, label: str, name: str, text: str) -> list[tuple[str, str]]:
        """A line of the plan, if the run has such a setting."""
        return [(label, f"{text}: {self.reasons[name]}")] if name in self.reasons else []

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
    rules = RULES[facts.generation]
    args = with_rules(args, rules)
    total_batch_size, device_batch_size = plan_batch(args, facts, world_size, memory, reasons)
    num_steps = plan_steps(args, facts, total_batch_size, reasons)
    length = RunLength(source_tokens or num_steps * total_batch_size, of_source=source_tokens is not None)
    tokens = source_tokens or horizon_tokens(args, facts)[0] or num_steps * total_batch_size
    optimizer, why = plan_optimizer(args, facts, length, total_batch_size, tokens)
    reasons |= why
    return Plan(
        facts=facts,
        num_steps=num_steps,
        total_batch_size=total_batch_size,
        device_batch_size=device_batch_size,
        max_seq_len=args.max_seq_len,
        world_size=world_size,
        optimizer=optimizer,
        schedule=_plan_schedule(args, rules, num_steps, length, reasons),
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


def _plan_schedule(
    args: LoopArguments, rules: Rules, num_steps: int, length: RunLength, reasons: dict[str, str]
) -> Schedule:
    """The schedules of learning rates, and in 2026 of momentum and weight decay."""
    warmup_steps = round(length.between(*rules.warmup_steps))
    warmup = min(1.0, warmup_steps / num_steps) if args.warmup_ratio is None else args.warmup_ratio
    by_rule = min(length.between(*rules.warmdown_ratio), 1 - warmup)
    warmdown = by_rule if args.warmdown_ratio is None else args.warmdown_ratio
    final = length.between(*rules.final_lr_frac) if args.final_lr_frac is None else args.final_lr_frac
    schedule = Schedule(num_steps=num_steps, warmup_ratio=warmup, warmdown_ratio=warmdown, final_fraction=final)
    if rules.momentum_end is not None:
        pairs = (rules.momentum_start, rules.momentum, rules.momentum_end)
        schedule = replace(
            schedule,
            warmup_steps=round(warmup * num_steps),  # nanochat's are whole
            warmdown_steps=round(warmdown * num_steps),
            momentum=tuple(length.between(*pair) for pair in pairs),
            momentum_warmup=rules.momentum_warmup,
            cosine_weight_decay=rules.cosine_weight_decay,
        )
    rising = f"{warmup:.0%} warmup" if rules.warmup_steps == (0, 0) else f"{schedule.warmup_steps} steps of warmup"
    reasons["schedule"] = (
        f"{rising}, constant, the last {warmdown:.0%} linear to {final:.0%}: "
        f"{length if args.warmdown_ratio is None else 'as given'}"
    )
    return schedule


def next_smaller(plan: Plan, rows: int) -> int:
    """The largest number of rows up to half of `rows` that still divides the batch; 0 if there is none."""
    return largest_divisor(plan.total_batch_size // (plan.max_seq_len * plan.world_size), rows // 2)
