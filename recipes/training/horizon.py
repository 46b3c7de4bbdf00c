"""How many tokens a run trains on, and how many of them make a step."""

import math
from functools import cache

from modeling_nanochat.configuration_nanochat import NanochatGPTConfig
from recipes.training.arguments import LoopArguments, PretrainArguments
from recipes.training.memory import choose_device_batch
from recipes.training.rules import MIN_STEPS, REFERENCE_BATCH, REFERENCE_DEPTH, RULES
from recipes.utils.errors import InputError
from recipes.utils.model_facts import ModelFacts, describe_config
from recipes.utils.processes import launched_with_fsdp


def horizon_tokens(args: PretrainArguments, facts: ModelFacts) -> tuple[float | None, str]:
    """Tokens of the run and why; None where only the number of steps is known."""
    if args.num_iterations is not None:
        return None, f"num_iterations {args.num_iterations:,}"
    if args.target_flops is not None:
        return args.target_flops / facts.flops_per_token, f"target_flops {args.target_flops:.3g}"
    ratio = args.target_param_data_ratio
    if facts.generation == 2025:
        return ratio * facts.num_parameters, f"{ratio:g} a parameter, all counted (target_param_data_ratio)"
    counted = f"the {facts.matrices_and_head:,} in the blocks and the head"
    return ratio * facts.matrices_and_head, f"{ratio:g} a parameter of {counted} (target_param_data_ratio)"


def reference_tokens(facts: ModelFacts, ratio: float | None) -> float:
    """Horizon of a d12, for which 2^19 tokens a step are right: in 2026 at the same ratio and vocabulary."""
    if facts.generation == 2025:
        return 20 * 185_597_952  # its parameters at vocabulary 65,536
    return (ratio or RULES[2026].target_param_data_ratio) * _reference_parameters(facts.vocab_size)


@cache
def _reference_parameters(vocab_size: int) -> int:
    config = NanochatGPTConfig.from_depth(REFERENCE_DEPTH, vocab_size, generation=2026)
    return describe_config(config, config.max_position_embeddings).matrices_and_head


def plan_steps(args: LoopArguments, facts: ModelFacts, total_batch_size: int, reasons: dict[str, str]) -> int:
    """Number of steps."""
    tokens, reasons["horizon"] = horizon_tokens(args, facts)
    if tokens is None:
        return args.num_iterations
    # nanochat of 2026 leaves the rest out that does not make a step.
    rounded = math.floor if facts.generation == 2026 and args.target_flops is None else round
    return max(1, rounded(tokens / total_batch_size))


def plan_batch(
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
        fitting = choose_device_batch(
            facts,
            args.max_seq_len,
            args.gradient_checkpointing,
            memory,
            args.optimizer,
            world_size,
            launched_with_fsdp(),
        )
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
    tokens, _ = horizon_tokens(args, facts)
    reference = reference_tokens(facts, args.target_param_data_ratio)
    if tokens is None:
        # The rule with D = steps x B on its right side, solved for B.
        scale = (args.num_iterations * REFERENCE_BATCH / reference) ** (0.383 / (1 - 0.383))
        by_rule, limit = REFERENCE_BATCH * scale, math.inf
    else:
        by_rule = REFERENCE_BATCH * (tokens / reference) ** 0.383
        limit = tokens / MIN_STEPS
    wanted = 2 ** round(math.log2(by_rule))
    reasons["batch"] = f"2^19 x (tokens / a d12's {reference / 1e9:.1f}B)^0.383, to a power of 2 (arXiv 2505.13738)"
    largest = RULES[facts.generation].largest_batch
    if largest is not None and wanted > largest:
        wanted, reasons["batch"] = largest, f"nanochat's of {facts.generation}, for a long run of any depth"
    if wanted > limit:
        wanted = 2 ** math.floor(math.log2(limit))
        reasons["batch"] = f"so that a short run still makes {MIN_STEPS} steps"
    rows = max(1, int(wanted // row_tokens))
    # A multiple of a power of two, so that it divides well also where the number of processes does not: 43 rows would
    # only go 1 at a time, 32 go 16 at a time. The same on every card, for a run may be resumed on another.
    unit = min(32, 2 ** max(0, math.floor(math.log2(rows)) - 1))
    return rows // unit * unit * row_tokens


def check_batch(
    total_batch_size: int,
    device_batch_size: int,
    max_seq_len: int,
    world_size: int,
    flags: tuple[str, str] = ("device_batch_size", "max_seq_len"),
) -> None:
    """Raise `InputError`, naming the nearest values that work, unless every process gets whole micro-batches.

    `flags` are what the stage calls the rows that a process handles at a time, and their length.
    """
    micro = device_batch_size * max_seq_len * world_size
    if total_batch_size >= micro and total_batch_size % micro == 0:
        return
    below = total_batch_size // micro * micro
    nearest = [value for value in (below, below + micro) if value]
    raise InputError(
        f"total_batch_size {total_batch_size} is not a multiple of {micro} ({flags[0]} {device_batch_size} x "
        f"{flags[1]} {max_seq_len} x {world_size} process{'es' if world_size > 1 else ''}). "
        f"Nearest that work: {', '.join(map(str, nearest))}."
    )


def largest_divisor(rows: int, at_most: int) -> int:
    """The largest number up to `at_most` that divides `rows`; 0 if there is none."""
    return next((number for number in range(min(rows, at_most), 0, -1) if rows % number == 0), 0)
