"""Model, optimizer, data and evaluation put together for the loop, and a run brought from its plan to its model."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, find_executable_batch_size, set_seed
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from evals.core.bundle import available, check_enough, read_tasks
from evals.core.evaluate import evaluate_core
from evals.samples import PROMPTS, complete
from recipes.data.corpora import Corpus
from recipes.data.coverage import Coverage
from recipes.data.held_out import read_validation_rows
from recipes.data.packing import build_rows_loader
from recipes.plots.curves import draw_loss
from recipes.publish.after_training import HubTarget, check_publishing_rights, hub_target, publish_finished
from recipes.training.arguments import LoopArguments
from recipes.training.checkpoint_files import check_room, find_checkpoint
from recipes.training.checkpoints import Checkpointer, unwrap
from recipes.training.export import save_model
from recipes.training.loop import Cadence, Evaluation, Stopped, Trainer
from recipes.training.models import build_config, build_model, set_special_tokens
from recipes.training.optimizers import build_optimizer
from recipes.training.plan import Plan, next_smaller, plan_training
from recipes.training.run import compiler_warning, compute_dtype, start_accelerator, worth_compiling
from recipes.training.tracking import MetricsLog
from recipes.training.warm_start import warm_start
from recipes.utils.errors import InputError
from recipes.utils.hardware import choose_precision, peak_flops, precision_name
from recipes.utils.model_facts import describe_model
from recipes.utils.processes import join_processes
from tokenizer.encode import token_byte_lengths


def make_plan(args: LoopArguments, vocab_size: int, world_size: int, source_tokens: int | None = None) -> Plan:
    """The run in numbers, as `plan_training` derives it; needs shapes only, no weights."""
    model = build_model(args, build_config(args, vocab_size), device="meta")
    return plan_training(args, describe_model(model, args.max_seq_len), world_size, source_tokens)


def train_and_save(
    args: LoopArguments,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    output_dir: Path,
    checkpoint: Path | None,
    *,
    epochs: int | None = None,
    source: str | None = None,
    coverage: Coverage | None = None,
) -> None:
    """Train to the end of the plan, from `checkpoint` if there is one, and save the model.

    With fewer rows at a time should they not fit into memory; returns early, with a checkpoint, after a signal.

    Args:
        epochs: passes after which the training data end (None: never).
        source: the run whose optimizer state to begin with, where it has any.
        coverage: how large the corpus is, where that is known.
    """
    target = hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    check_publishing_rights(target)
    state = join_processes()
    peak = peak_flops(state.device, compute_dtype(choose_precision(args.mixed_precision, state.device)))
    compile_model = worth_compiling(args, plan, state.device)
    accelerator = start_accelerator(args, compile_model)
    accelerator.print("\n".join(plan.lines()))
    seen = coverage.line(plan.num_tokens, args.packing) if coverage else "of unknown size"
    accelerator.print(f"{'data':<13}{corpus.files.line() if corpus.files else corpus.name}")
    accelerator.print(f"{'packing':<13}{args.packing}: {seen}")
    speed = f"{peak / 1e12:.2f} TFLOP/s peak" if peak else "peak unknown"
    precision = precision_name(accelerator.mixed_precision)
    accelerator.print(
        f"machine      {accelerator.num_processes} x {state.device.type}, {precision} precision, "
        f"{'compiled' if compile_model else 'not compiled'}, {speed}"
    )
    if warning := compiler_warning(args, plan, state.device):
        accelerator.print(warning)

    device_batch_size = plan.device_batch_size

    def halve() -> int:
        nonlocal device_batch_size, checkpoint
        device_batch_size = next_smaller(plan, device_batch_size)
        if device_batch_size == 0:
            raise InputError("out of memory with a single row: use a smaller max_seq_len or --gradient_checkpointing.")
        checkpoint = find_checkpoint(output_dir, "auto") or checkpoint
        accelerator.print(f"out of memory: going on with device_batch_size {device_batch_size} and more accumulation")
        return device_batch_size

    @find_executable_batch_size(starting_batch_size=device_batch_size, reduce_batch_size_fn=halve)
    def train(rows: int) -> None:
        accelerator.free_memory()
        fitting = plan.with_device_batch_size(rows)
        trainer = build_trainer(args, accelerator, fitting, tokenizer, corpus, output_dir, peak, epochs)
        if checkpoint is None:
            check_room(output_dir, unwrap(trainer.model))
        if source is not None and checkpoint is None:
            accelerator.print(f"{'optimizer':<13}{warm_start(trainer.optimizer, args.optimizer, source)}")
        try:
            trainer.train(checkpoint)
        finally:
            trainer.checkpointer.close()
        if accelerator.is_main_process:
            finish(trainer, tokenizer, output_dir, "base" if source is None else "mid", target)

    try:
        train()
    except Stopped:
        return
    finally:
        accelerator.end_training()


def build_trainer(
    args: LoopArguments,
    accelerator: Accelerator,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    output_dir: Path,
    peak: float | None,
    epochs: int | None = None,
) -> Trainer:
    """Model, optimizer and data, put together for the loop."""
    set_seed(args.seed)
    model = build_model(args, build_config(args, len(tokenizer)), device=accelerator.device)
    set_special_tokens(model, tokenizer)
    optimizer = build_optimizer(args.optimizer, model, plan.settings)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # what the schedule multiplies
    model, optimizer = accelerator.prepare(model, optimizer)
    loader = build_rows_loader(
        corpus.train,
        tokenizer,
        plan.max_seq_len + 1,
        plan.device_batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_workers=args.num_workers,
        packing=args.packing,
        epochs=epochs,
    )
    return Trainer(
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        loader=loader,
        plan=plan,
        checkpointer=Checkpointer(accelerator, output_dir, loader, tokenizer, args.keep_checkpoints),
        metrics=MetricsLog(output_dir / "metrics.jsonl"),
        evaluations=[
            build_evaluation(args, accelerator, plan, tokenizer, corpus),
            build_core_evaluation(args, accelerator, plan, tokenizer),
        ],
        sample=lambda model: sample_lines(model, tokenizer),
        sample_every=Cadence(args.sample_every),
        save_every=Cadence(args.save_every),
        log_every=args.log_every,
        grad_clip=args.grad_clip,
        peak_flops=peak,
    )


def build_evaluation(
    args: LoopArguments,
    accelerator: Accelerator,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
) -> Evaluation:
    """Bits per byte of `eval_tokens` of the validation split, shared among the processes."""
    if args.eval_every < 0:
        return Evaluation("evaluation", Cadence(args.eval_every), lambda model: {})
    byte_lengths = token_byte_lengths(tokenizer)
    rows = _share(
        accelerator, lambda: read_validation_rows(corpus.validation, tokenizer, plan.max_seq_len, args.eval_tokens)
    )
    mine = rows[accelerator.process_index :: accelerator.num_processes].long()

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        failure = None
        try:
            totals = sum_nats_and_bytes(model, mine.split(plan.device_batch_size), byte_lengths)
        except Exception as error:
            totals, failure = torch.full((2,), float("nan")), error
        # Also after a failure: the other processes wait here.
        nats, num_bytes = accelerator.reduce(totals.to(accelerator.device, torch.float32)).tolist()
        if failure is not None:
            raise failure
        if math.isnan(nats):
            raise RuntimeError("it failed on another process")
        return {"val/bpb": bits_per_byte(nats, num_bytes)}

    return Evaluation("evaluation", Cadence(args.eval_every), evaluate)


def _share(accelerator: Accelerator, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What `read` returns, or raises, on the main process: one of them reads for all."""
    result: list = [None, None]
    if accelerator.is_main_process:
        try:
            result[0] = read()
        except InputError as error:
            result[1] = f"held out for validation: {error} Or train without, by --eval_every -1."
    broadcast_object_list(result)
    if result[1] is not None:
        raise InputError(result[1])
    return result[0]


def build_core_evaluation(
    args: LoopArguments, accelerator: Accelerator, plan: Plan, tokenizer: PreTrainedTokenizerFast
) -> Evaluation:
    """CORE of `core_bundle`: `core_metric`, or `core_partial` where the bundle lacks some of its tasks."""
    bundle, tasks = Path(args.core_bundle or ""), []
    if args.core_metric_every >= 0:  # what is wrong with the bundle is told before the first step
        tasks = available(read_tasks(bundle), bundle)
        check_enough(tasks, args.core_metric_max_per_task)
    on_gpu = accelerator.device.type == "cuda"
    batch_tokens = plan.device_batch_size * plan.max_seq_len if on_gpu else None  # so many did fit

    def measure(model: PreTrainedModel) -> dict[str, float]:
        result = evaluate_core(model, tokenizer, tasks, bundle, args.core_metric_max_per_task, batch_tokens)
        for label, reason in result.failed.items():
            accelerator.print(f"CORE without {label}, which failed: {reason}")
        if not result.results:
            raise RuntimeError(f"no task of {bundle} could be measured")
        return result.metrics()

    return Evaluation("CORE", Cadence(args.core_metric_every), measure)


def sample_lines(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The seven prompts with the model's completions."""
    completions = complete(model, tokenizer, list(PROMPTS))
    return [f"  {prompt}|{completion!r}" for prompt, completion in zip(PROMPTS, completions, strict=True)]


def finish(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerFast,
    output_dir: Path,
    stage: str,
    target: HubTarget | None = None,
) -> None:
    """Draw the run, then save the model: the directory counts as finished from then on, and goes to `target`.

    `stage` is base or mid.
    """
    draw_loss(trainer.metrics.records, output_dir / "loss.png", trainer.plan.facts.name, stage)
    save_model(unwrap(trainer.model), tokenizer, output_dir)
    print(f"finished: {output_dir} loads by AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)")
    publish_finished(target, output_dir)
