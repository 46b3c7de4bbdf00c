"""Pretrain a base model: `accelerate launch recipes/pretrain.py --config recipes/configs/cpu.yaml --tokenizer DIR`.

Stop it by Ctrl-C or SIGTERM and give the same command again: it goes on where it stopped, bit for bit on a CPU.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size, set_seed
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from evals.samples import PROMPTS, complete
from recipes.arguments import parse_arguments
from recipes.data.corpora import Corpus, open_corpus
from recipes.data.packing import build_rows_loader
from recipes.errors import InputError, exit_on_input_error
from recipes.training.arguments import PretrainArguments
from recipes.training.charts import draw_loss
from recipes.training.checkpoints import Checkpointer, find_checkpoint, unwrap
from recipes.training.export import is_finished, save_model
from recipes.training.hardware import choose_precision, peak_flops
from recipes.training.loop import Cadence, Stopped, Trainer
from recipes.training.models import build_config, build_model, load_tokenizer, set_special_tokens
from recipes.training.optimizers import build_optimizer
from recipes.training.plan import Plan, describe_model, dry_run_lines, plan_training
from recipes.training.run import claim_output_dir, compute_dtype, join_processes, start_accelerator, worth_compiling
from recipes.training.tracking import MetricsLog
from tokenizer.encode import token_byte_lengths


def pretrain(args: PretrainArguments) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    tokenizer = load_tokenizer(args)
    state = join_processes()
    plan = make_plan(args, len(tokenizer), state.num_processes)
    output_dir = claim_output_dir(args, plan, state)
    if is_finished(output_dir):
        state.print(f"{output_dir} is finished already; to train anew, choose another --output_dir.")
        return
    checkpoint = find_checkpoint(output_dir, args.resume)
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged)

    peak = peak_flops(state.device, compute_dtype(choose_precision(args.mixed_precision, state.device)))
    compile_model = worth_compiling(args, plan, state.device)
    accelerator = start_accelerator(args, compile_model)
    accelerator.print("\n".join(plan.lines()))
    speed = f"{peak / 1e12:.2f} TFLOP/s peak" if peak else "peak unknown"
    accelerator.print(
        f"machine      {accelerator.num_processes} x {state.device.type}, {accelerator.mixed_precision} precision, "
        f"{'compiled' if compile_model else 'not compiled'}, {speed}"
    )

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
        trainer = build_trainer(args, accelerator, fitting, tokenizer, corpus, output_dir, peak)
        try:
            trainer.train(checkpoint)
        finally:
            trainer.checkpointer.close()
        if accelerator.is_main_process:
            finish(trainer, tokenizer, output_dir)

    try:
        train()
    except Stopped:
        return
    finally:
        accelerator.end_training()


def make_plan(args: PretrainArguments, vocab_size: int, world_size: int) -> Plan:
    """The run in numbers; needs shapes only, no weights."""
    model = build_model(args, build_config(args, vocab_size), device="meta")
    return plan_training(args, describe_model(model, args.max_seq_len), world_size)


def build_trainer(
    args: PretrainArguments,
    accelerator: Accelerator,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    output_dir: Path,
    peak: float | None,
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
    )
    return Trainer(
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        loader=loader,
        plan=plan,
        checkpointer=Checkpointer(accelerator, output_dir, loader, tokenizer, args.keep_checkpoints),
        metrics=MetricsLog(output_dir / "metrics.jsonl"),
        evaluate=build_evaluation(args, accelerator, plan, tokenizer, corpus),
        sample=lambda model: sample_lines(model, tokenizer),
        eval_every=Cadence(args.eval_every),
        sample_every=Cadence(args.sample_every),
        save_every=Cadence(args.save_every),
        log_every=args.log_every,
        grad_clip=args.grad_clip,
        peak_flops=peak,
    )


def build_evaluation(
    args: PretrainArguments,
    accelerator: Accelerator,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
) -> Callable[[PreTrainedModel], dict[str, float]]:
    """Bits per byte of `eval_tokens` of the validation split, shared among the processes."""
    byte_lengths = token_byte_lengths(tokenizer)
    rows_each = -(-args.eval_tokens // (plan.max_seq_len * plan.world_size))
    batches = -(-rows_each // plan.device_batch_size)

    def read() -> Iterator[torch.Tensor]:
        loader = build_rows_loader(
            corpus.validation,
            tokenizer,
            plan.max_seq_len + 1,
            plan.device_batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            packing=args.packing,
            epochs=1,
        )
        return (batch["tokens"] for batch in islice(loader, batches))

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        failure = None
        try:
            totals = sum_nats_and_bytes(model, read(), byte_lengths)
        except Exception as error:
            totals, failure = torch.full((2,), float("nan")), error
        # Also after a failure: the other processes wait here.
        nats, num_bytes = accelerator.reduce(totals.to(accelerator.device, torch.float32)).tolist()
        if failure is not None:
            raise failure
        if math.isnan(nats):
            raise RuntimeError("it failed on another process")
        return {"val/bpb": bits_per_byte(nats, num_bytes)}

    if args.eval_every >= 0:
        next(read(), None)  # validation data that cannot be read or fill a row is told before the first step
    return evaluate


def sample_lines(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The seven prompts with the model's completions."""
    completions = complete(model, tokenizer, list(PROMPTS))
    return [f"  {prompt}|{completion!r}" for prompt, completion in zip(PROMPTS, completions, strict=True)]


def next_smaller(plan: Plan, rows: int) -> int:
    """The largest number of rows up to half of `rows` that still divides the batch; 0 if there is none."""
    rows_a_process = plan.total_batch_size // (plan.max_seq_len * plan.world_size)
    return next((fewer for fewer in range(rows // 2, 0, -1) if rows_a_process % fewer == 0), 0)


def finish(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, output_dir: Path) -> None:
    """Draw the run, then save the model: the directory counts as finished from then on."""
    chart = output_dir / "loss.png"
    try:
        draw_loss(trainer.metrics.records, chart, trainer.plan.facts.name)
    except Exception as error:  # a model is not lost for want of a picture
        print(f"could not draw {chart}: {error}")
    else:
        print(f"chart        {chart}")
    save_model(unwrap(trainer.model), tokenizer, output_dir)
    print(f"finished: {output_dir} loads by AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)")


def dry_run(args: PretrainArguments) -> None:
    """Print what a run would be, without data and weights."""
    vocab_size = len(load_tokenizer(args)) if args.tokenizer or args.model_name_or_path else args.vocab_size
    plan = make_plan(args, vocab_size, args.gpus)
    print("\n".join([*plan.lines(), *dry_run_lines(args, plan)]))


def main() -> None:
    args = parse_arguments(PretrainArguments)
    if args.dry_run:
        dry_run(args)
    else:
        pretrain(args)


if __name__ == "__main__":
    exit_on_input_error("pretrain", main)
