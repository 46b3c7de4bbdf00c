"""Training as recipes/pretrain.py does it, on random tokens: speed, memory, and where the time goes."""

import gc
import statistics
import time
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState

from benchmarks.gpu.arguments import GPUArguments
from benchmarks.gpu.card import timed
from modeling_nanochat import NanochatGPTConfig
from recipes.training import fsdp
from recipes.training.arguments import PretrainArguments
from recipes.training.attention import choose_attention
from recipes.training.checkpoints import unwrap
from recipes.training.dry_run import DEFAULT_VOCABULARY
from recipes.training.environment import compute_dtype, start_accelerator
from recipes.training.loop import rows_loss
from recipes.training.machines import smallest_memory
from recipes.training.models import build_model
from recipes.training.optimizers import build_optimizer, shard_over_ranks
from recipes.training.out_of_memory import rehearse
from recipes.training.plan import Plan, plan_training
from recipes.training.precision import check_fp8, precision_handlers, set_compute_dtype
from recipes.training.rules import RULES, with_rules
from recipes.utils.hardware import choose_precision, peak_flops, peak_memory
from recipes.utils.model_facts import describe_config

BUCKETS = (25, 100, 250, 10_000)  # MiB: torch's, two between, and all gradients at once
WARMUP = 3
# Of recipes/configs/pretrain/gpu.yaml, for the share of evaluation.
EVAL_TOKENS, EVAL_EVERY = 5_242_880, 250


def forget() -> None:
    """Free what a part has left, so that the next one finds an empty card."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def plan_for(
    args: GPUArguments, state: PartialState, depth: int, generation: int, vocab_size: int | None = None
) -> tuple[NanochatGPTConfig, Plan]:
    """The model, and the run that the recipe would plan for it here."""
    config = NanochatGPTConfig.from_depth(
        depth,
        vocab_size or args.vocab_size or DEFAULT_VOCABULARY[generation],
        generation=generation,
        max_position_embeddings=args.max_seq_len,
    )
    facts = describe_config(config, args.max_seq_len)
    flags = PretrainArguments(
        depth=depth, generation=generation, max_seq_len=args.max_seq_len, device_batch_size=args.rows
    )
    flags = with_rules(flags, RULES[generation])
    return config, plan_training(flags, facts, state.num_processes, smallest_memory(state))


def prepare(
    args: GPUArguments, config: NanochatGPTConfig, plan: Plan, precision: str = "auto"
) -> tuple[Accelerator, torch.nn.Module, torch.optim.Optimizer]:
    """Model and optimizer as the recipe has them in front of its loop."""
    device = PartialState().device
    precision = choose_precision(precision, device)
    check_fp8(precision, config, from_depth=1)
    kernel = choose_attention("auto", device, args.max_seq_len, config, precision)
    handlers = precision_handlers(precision, device, config)
    accelerator = start_accelerator(args.output_dir, precision, args.compile, plan, handlers=handlers)
    model = build_model(config, args.max_seq_len, device, attention=kernel)
    set_compute_dtype(model, accelerator)
    fsdp.shard_weights(model, accelerator)  # under accelerate_configs/fsdp2.yaml
    optimizer = build_optimizer("muon", model, plan.optimizer)
    shard_over_ranks(optimizer, accelerator)
    model, optimizer = fsdp.prepare(accelerator, model, optimizer)
    return accelerator, model.train(), optimizer


def measure(
    args: GPUArguments,
    state: PartialState,
    depth: int,
    generation: int,
    precision: str = "auto",
    bucket: int | None = None,
) -> dict[str, Any]:
    """Tokens/s of all processes, MFU, peak memory and the parts of a step; `bucket` in MiB, of DDP."""
    config, plan = plan_for(args, state, depth, generation)
    sized = mock.patch("recipes.training.environment.bucket_size", lambda facts: bucket) if bucket else nullcontext()
    with sized:
        accelerator, model, optimizer = prepare(args, config, plan, precision)
    device, rows = accelerator.device, plan.device_batch_size
    batch = torch.randint(0, config.vocab_size, (rows, args.max_seq_len + 1), device=device)
    tokens = rows * args.max_seq_len

    def loss() -> torch.Tensor:
        return rows_loss(model, batch, tokens)

    def passes() -> None:  # with an exchange of gradients
        accelerator.backward(loss())

    def passes_alone() -> None:  # as all micro-batches of a step but the last
        with accelerator.no_sync(model):
            passes()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=accelerator.num_processes == 1)

    started = time.perf_counter()
    rehearse(accelerator, model, loss)  # where memory runs out on one process, all of them learn it
    timed(passes, device)
    compiling = time.perf_counter() - started
    update()
    seconds = [
        tuple(timed(each, device) for each in (passes_alone, passes, update)) for _ in range(WARMUP + args.steps)
    ]
    alone_s, passes_s, update_s = (statistics.median(column) for column in zip(*seconds[WARMUP:], strict=True))
    step_s = (plan.accumulation_steps - 1) * alone_s + passes_s + update_s
    speed = plan.total_batch_size / step_s
    peak = peak_flops(device, compute_dtype(accelerator.mixed_precision))
    memory = peak_memory(device)  # before evaluation, which is compiled anew
    found = {
        "tokens/s": speed,
        "MFU": speed / state.num_processes * plan.facts.flops_per_token / peak if peak else None,
        "peak GB": memory / 1e9,
        "rows": rows,
        "micro-batch ms": 1e3 * alone_s,
        "with exchange ms": 1e3 * passes_s,
        "update ms": 1e3 * update_s,
        "first pass s": compiling,
        "precision": accelerator.mixed_precision,
        "attention": unwrap(model).config._attn_implementation,
    }
    if bucket is None and depth == args.depths[0]:
        found["evaluation share"] = evaluation_share(model, loss, device, tokens * state.num_processes, step_s, plan)
    return found


def evaluation_share(
    model: torch.nn.Module, loss: Any, device: torch.device, tokens: int, step_s: float, plan: Plan
) -> float:
    """Seconds of evaluating as often as the gpu preset does, over seconds of training; `tokens` a forward pass."""
    model.eval()
    with torch.no_grad():
        loss()
        forward_s = statistics.median(timed(loss, device) for _ in range(3))
    model.train()
    return (EVAL_TOKENS / tokens * forward_s) / (EVAL_EVERY * step_s)
