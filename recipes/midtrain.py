"""Midtrain a base model on conversations: `accelerate launch recipes/midtrain.py --source DIR --conversations ...`.

The model meets the chat format, tools and multiple choice. The loop is pretraining's: packed rows, every token
trained, and after Ctrl-C or SIGTERM the same command resumes, on any number of processes. Unset arguments default to
those of the run that trained the source, whose optimizer state this one begins with.
"""

from recipes.training.arguments import MidtrainArguments
from recipes.utils.arguments import read_command_line, resumable_flags
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":  # before torch is imported, which takes seconds: a wrong flag is reported at once
    ARGS = read_command_line("midtrain", MidtrainArguments)

import sys
from dataclasses import asdict
from pathlib import Path

import datasets
from accelerate import PartialState
from accelerate.utils import set_seed

from recipes.data.conversations import files_lines, open_conversations
from recipes.data.coverage import Coverage
from recipes.data.messages import choice_wording
from recipes.data.packing import build_rows_loader
from recipes.data.tokens import TokenShares, rows_of_one_pass, token_stream, tokenize_conversations
from recipes.plots.curves import draw_loss
from recipes.publish import after_training
from recipes.training.attention import choose_attention, describe_attention
from recipes.training.checkpoints import unwrap
from recipes.training.environment import compute_dtype, print_run, refuse_other_launchers, start_accelerator
from recipes.training.evaluations import bits_per_byte_evaluation, core_evaluation, sample_lines
from recipes.training.export import save_model
from recipes.training.fingerprint import fingerprint_chat
from recipes.training.fsdp import prepare, shard_weights, whole_on_main
from recipes.training.loop import TrainingLoop
from recipes.training.machines import smallest_memory
from recipes.training.models import build_config, build_model, load_tokenizer, model_facts, set_special_tokens
from recipes.training.optimizers import build_optimizer, find_builder, shard_over_ranks
from recipes.training.out_of_memory import halve_batch_when_out_of_memory
from recipes.training.output_dir import (
    began_with,
    choose_checkpoint,
    claim_inputs,
    claim_output_dir,
    hold_output_dir,
)
from recipes.training.plan import Plan, plan_midtraining
from recipes.training.precision import check_fp8, precision_handlers, set_compute_dtype, without_fp8
from recipes.training.source_run import inherit_settings, source_tokens, warm_start
from recipes.utils.hardware import choose_precision, peak_flops
from recipes.utils.heartbeat import heartbeat
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch
from recipes.utils.run_directory import LOSS_CHART
from tokenizer.chat import add_chat_template

INPUTS = {"source", "conversations"}  # arguments that name what is read


def midtrain(args: MidtrainArguments, state: PartialState) -> None:
    """The whole recipe, from a base model to one that knows the chat format."""
    precision = choose_precision(args.mixed_precision, state.device)
    # --- Settings: what is not given is as in the run that trained the source, its batch and learning rates above all.
    args = inherit_settings(args, state)
    refuse_other_launchers(args)  # once more: with what is inherited
    find_builder(args.optimizer)  # an unknown optimizer is reported before data are read
    tokenizer = load_tokenizer(None, args.max_seq_len, of_model=args.source)
    if not tokenizer.chat_template:
        add_chat_template(tokenizer)
    config = build_config(len(tokenizer), args.max_seq_len, model_name_or_path=args.source)
    facts = model_facts(config, args.max_seq_len, args.source)
    check_fp8(precision, config, args.fp8_from_depth)
    attention = choose_attention(args.attn_implementation, state.device, args.max_seq_len, config, precision)

    # --- Output directory. It belongs to one run, as in pretraining.
    output_dir, world_size = Path(args.output_dir), state.num_processes
    arguments = asdict(args) | {"recipe": "midtrain", "num_processes": world_size}
    target = after_training.hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    may_change = INPUTS | {"num_processes"}
    if claim_output_dir(output_dir, arguments, resumable_flags(MidtrainArguments), may_change, state):
        after_training.publish_already_finished(target, output_dir)
        return
    after_training.check_publishing_rights(target)  # now: after the training, a refusal would come late

    # --- Data: conversations, rendered and tokenized by one process of each machine. The others find its cache.
    wording = choice_wording(tokenizer, config)
    splits = ("train", "validation")
    with state.local_main_process_first(), heartbeat("preparing the conversations", state.is_local_main_process):
        opened = {split: open_conversations(args.conversations, split, args.seed, wording) for split in splits}
        train_tokens, validation_tokens = (
            tokenize_conversations(opened[split], tokenizer, args.max_seq_len, args.num_workers) for split in splits
        )
    claim_inputs(output_dir, arguments, lambda: fingerprint_chat(args.source, args.conversations, opened), state)
    checkpoint = choose_checkpoint(output_dir, args.resume, state)

    # --- Plan: one pass over them is the whole run. Best fit keeps conversations whole: an end says little by itself.
    packing = "best_fit" if args.packing == "auto" else args.packing
    # A resumed run makes as many steps as when it began, on however many processes that was.
    processes = began_with(output_dir, state).get("num_processes", world_size)
    rows = rows_of_one_pass(train_tokens, args.max_seq_len + 1, packing, processes)
    one_pass = rows // (args.total_batch_size // (args.max_seq_len * processes))
    lengths, memory = train_tokens["length"], smallest_memory(state)
    plan = plan_midtraining(args, facts, world_size, lengths, one_pass, source_tokens(args.source), memory)
    tokens = sum(lengths)
    coverage = Coverage(tokens, exact=True, kept=rows * (args.max_seq_len + 1) * processes / tokens)

    accelerator = start_accelerator(
        args.output_dir,
        precision,
        args.compile,
        plan,
        args.log_with,
        args.run,
        config=asdict(args),
        activation_memory_budget=args.activation_memory_budget,
        handlers=precision_handlers(precision, state.device, config),
    )
    peak = peak_flops(accelerator.device, compute_dtype(precision))  # of one device, for MFU
    record_launch(output_dir, data=args.conversations, source=args.source, precision=precision)
    data = "; ".join(files_lines(args.conversations)) or args.conversations
    kernel = describe_attention(attention, config, accelerator.device, args.max_seq_len)
    print_run(accelerator, plan, data, f"{packing}: {coverage.line(plan.num_tokens, packing)}", kernel, peak)

    @halve_batch_when_out_of_memory(accelerator, output_dir)
    def train(plan: Plan, checkpoint: Path | None) -> TrainingLoop | None:
        set_seed(args.seed)
        # --- Model, optimizer and rows, as in pretraining. Every token is trained, a user's as well: the model is to
        # know what questions look like. SFT then narrows the loss to what the assistant writes.
        model = build_model(
            config, args.max_seq_len, accelerator.device, args.source, True, args.gradient_checkpointing, attention
        )
        set_special_tokens(model, tokenizer)
        set_compute_dtype(model, accelerator)
        shard_weights(model, accelerator)
        optimizer = build_optimizer(args.optimizer, model, plan.optimizer)
        shard_over_ranks(optimizer, accelerator)
        evaluated = without_fp8(model, precision)
        model, optimizer = prepare(accelerator, model, optimizer)
        loader = build_rows_loader(
            TokenShares(train_tokens),
            tokenizer,
            args.max_seq_len + 1,
            plan.device_batch_size,
            rank=accelerator.process_index,
            world_size=world_size,
            packing=packing,
            epochs=1 if plan.num_steps <= one_pass else None,
            endless=True,  # resumed on other processes, one may come to the end of its share a few rows early
        )
        if checkpoint is None:  # momentum and moments of the source's last step, so that the first steps do not jump
            accelerator.print(f"{'optimizer':<13}{warm_start(optimizer, args.optimizer, args.source)}")
        validation = token_stream(validation_tokens, world_size)
        bpb = bits_per_byte_evaluation(validation, tokenizer, accelerator, plan, args.eval_tokens, args.eval_every)
        core = core_evaluation(
            args.core_bundle, tokenizer, accelerator, plan, args.core_metric_max_per_task, args.core_metric_every
        )
        loop = TrainingLoop(
            accelerator,
            model,
            optimizer,
            loader,
            plan,
            tokenizer,
            output_dir,
            evaluations=[bpb, core],
            sample=lambda model: sample_lines(model, tokenizer),
            sample_every=args.sample_every,
            save_every=args.save_every,
            keep_checkpoints=args.keep_checkpoints,
            keep_best=args.keep_best,
            log_every=args.log_every,
            grad_clip=args.grad_clip,
            peak_flops=peak,
            without_fp8=evaluated,
        )
        return loop if loop.run(checkpoint) else None

    try:
        loop = train(plan, checkpoint)
        # --- Save and publish
        trained = loop and whole_on_main(unwrap(loop.model))
        if loop is not None and accelerator.is_main_process:  # None: stopped by a signal, with a checkpoint
            draw_loss(loop.metrics.records, output_dir / LOSS_CHART, facts.name, "mid")
            save_model(trained, tokenizer, output_dir)
            print(f"finished: {output_dir} loads by AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)")
            after_training.publish_finished(target, output_dir)
    finally:
        accelerator.end_training()


def main(args: MidtrainArguments) -> None:
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    refuse_other_launchers(args)
    state = join_processes()
    with hold_output_dir(args.output_dir, state):
        midtrain(args, state)


if __name__ == "__main__":
    exit_on_input_error("midtrain", lambda: main(ARGS))
