"""Pretrain a base model: `accelerate launch recipes/pretrain.py --config recipes/configs/pretrain/gpu.yaml`.

The whole course of the stage, top to bottom: plan, data, model, optimizer, loop, save, publish. Stop it by Ctrl-C or
SIGTERM and give the same command again: it resumes where it stopped, bit for bit on a CPU. Another number of processes
may go on with it: then each document is still read once, but in other rows.
"""

import sys

from recipes.training.arguments import PretrainArguments
from recipes.utils.arguments import read_command_line, resumable_flags
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":  # before torch is imported, which takes seconds: a wrong flag is reported at once
    ARGS = read_command_line("pretrain", PretrainArguments)
    if ARGS.dry_run:
        from recipes.training.dry_run import dry_run

        exit_on_input_error("pretrain", lambda: dry_run(ARGS))
        sys.exit()

from dataclasses import asdict, replace
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import set_seed

from recipes.data.corpora import open_corpus
from recipes.data.coverage import choose_packing, describe_coverage, measure_coverage
from recipes.data.packing import build_rows_loader
from recipes.data.shares import describe_sharing
from recipes.plots.curves import draw_loss
from recipes.publish import after_training
from recipes.training.adapters import add_lora, facts_with_adapters, lora_config, save_and_merge
from recipes.training.attention import choose_attention, describe_attention
from recipes.training.checkpoints import unwrap
from recipes.training.documents_read import begin_corpus, keep_record
from recipes.training.environment import compute_dtype, print_run, refuse_other_launchers, start_accelerator
from recipes.training.evaluations import bits_per_byte_evaluation, core_evaluation, sample_lines
from recipes.training.export import save_model
from recipes.training.fingerprint import fingerprint_inputs
from recipes.training.fsdp import prepare, shard_weights, whole_on_main
from recipes.training.loop import TrainingLoop
from recipes.training.machines import smallest_memory
from recipes.training.models import (
    build_config,
    build_model,
    freeze_parameters,
    load_tokenizer,
    model_facts,
    set_special_tokens,
)
from recipes.training.optimizers import build_optimizer, find_builder, shard_over_ranks
from recipes.training.out_of_memory import halve_batch_when_out_of_memory
from recipes.training.output_dir import (
    began_with,
    choose_checkpoint,
    claim_inputs,
    claim_output_dir,
    hold_output_dir,
)
from recipes.training.plan import Plan, plan_training
from recipes.training.precision import check_fp8, precision_handlers, set_compute_dtype, without_fp8
from recipes.training.rules import RULES, with_rules
from recipes.utils.hardware import choose_precision, peak_flops
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch
from recipes.utils.run_directory import LOSS_CHART

INPUTS = {"dataset", "tokenizer", "model_config", "model_name_or_path"}  # arguments that name what is read


def pretrain(args: PretrainArguments, state: PartialState) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    precision = choose_precision(args.mixed_precision, state.device)
    # --- Plan: every number of the run, by rule from the dial, each with its reason. It needs no weights, only shapes.
    source = args.model_name_or_path or args.model_config  # None: the model of the dial
    tokenizer = load_tokenizer(args.tokenizer, args.max_seq_len, of_model=args.model_name_or_path)
    config = build_config(
        len(tokenizer),
        args.max_seq_len,
        args.depth,
        args.model_config,
        args.model_name_or_path,
        args.generation,
        args.window_pattern,
    )
    facts, lora = model_facts(config, args.max_seq_len, source, args.freeze), None
    if args.use_peft:  # adapters are trained in place of the model's own weights (training/adapters.py)
        lora = lora_config(args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules)
        facts = facts_with_adapters(facts, config, lora)
    args = with_rules(args, RULES[facts.generation])  # the numbers of its generation, where none were given
    output_dir = Path(args.output_dir)
    began = began_with(output_dir, state)
    if args.total_batch_size is None and began.get("num_processes", state.num_processes) != state.num_processes:
        args = replace(args, total_batch_size=began.get("total_batch_size"))  # resumed on others, it keeps its batch
    plan = plan_training(args, facts, state.num_processes, smallest_memory(state))
    find_builder(args.optimizer)  # what is unknown, or not for this machine, is reported before data are read
    check_fp8(precision, config, args.fp8_from_depth, adapters=lora is not None)
    attention = choose_attention(args.attn_implementation, state.device, args.max_seq_len, config, precision)

    # --- Output directory. It belongs to one run: the same arguments and data resume it, and others are refused, or
    # nobody could say what the model was trained on.
    planned = {"total_batch_size": plan.total_batch_size, "num_iterations": plan.num_steps}
    arguments = asdict(args) | planned | {"recipe": "pretrain", "num_processes": state.num_processes}
    target = after_training.hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    may_change = INPUTS | {"num_processes"}
    if claim_output_dir(output_dir, arguments, resumable_flags(PretrainArguments), may_change, state):
        after_training.publish_already_finished(target, output_dir)
        return
    after_training.check_publishing_rights(target)  # now: after the training, a refusal would come late

    # --- Data: streams of training and held-out documents, and which share of them the run will see (data/corpora.py).
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged, args.document_separator, tokenizer)
    models = {"model_config": args.model_config, "model_name_or_path": args.model_name_or_path}
    claim_inputs(output_dir, arguments, lambda: fingerprint_inputs(corpus, tokenizer.name_or_path, models), state)
    checkpoint = choose_checkpoint(output_dir, args.resume, state)
    # Of a prepared corpus, begin with the documents that this run was told to, or that another has not read.
    corpus = begin_corpus(corpus, args.skip_tokens, args.continue_from, checkpoint, output_dir, state)
    # Best fit crops documents and drops the rest of them, which costs nothing while there are new ones to read. A run
    # that comes to its documents again learns more from their ends first.
    coverage = measure_coverage(corpus, tokenizer, args.max_seq_len + 1)
    packing = choose_packing(args.packing, coverage, plan.num_tokens)

    # --- Machine: devices, precision, compilation and trackers.
    accelerator = start_accelerator(
        args.output_dir,
        precision,
        args.compile,
        plan,
        args.log_with,
        args.run,
        config=asdict(args),
        activation_memory_budget=args.activation_memory_budget,
        handlers=precision_handlers(precision, state.device, config, adapters=lora is not None),
    )
    peak = peak_flops(accelerator.device, compute_dtype(precision))  # of one device, for MFU
    files = corpus.files and corpus.files.names()
    record_launch(output_dir, data=args.dataset, files=files, precision=precision)
    seen = describe_coverage(coverage, plan.num_tokens, packing)
    kernel = describe_attention(attention, config, accelerator.device, args.max_seq_len)
    data = corpus.line() + describe_sharing(corpus.train, accelerator.num_processes * max(1, args.num_workers))
    print_run(accelerator, plan, data, f"{packing}: {seen}", kernel, peak)

    @halve_batch_when_out_of_memory(accelerator, output_dir)
    def train(plan: Plan, checkpoint: Path | None) -> TrainingLoop | None:
        # --- Model. Every process draws the same initial weights, so nothing has to be sent.
        set_seed(args.seed)
        pretrained, recompute = args.model_name_or_path is not None, args.gradient_checkpointing
        model = build_model(config, args.max_seq_len, accelerator.device, source, pretrained, recompute, attention)
        freeze_parameters(model, args.freeze)
        if args.tokenizer is not None:  # a model's own is known to it already, with all tokens that may end a text
            set_special_tokens(model, tokenizer)
        set_compute_dtype(model, accelerator)
        if lora is not None:
            model = add_lora(model, lora)
        shard_weights(model, accelerator)  # if FSDP is asked for (training/fsdp.py)
        set_seed(args.seed, device_specific=True)  # from here on, dropout differs between the processes
        # --- Optimizer (training/muon.py): Muon for the matrices of the blocks, AdamW for embedding, head and vectors.
        optimizer = build_optimizer(args.optimizer, model, plan.optimizer)
        shard_over_ranks(optimizer, accelerator)
        evaluated = without_fp8(model, precision)
        model, optimizer = prepare(accelerator, model, optimizer)  # DDP, autocast, compilation
        # --- Rows of max_seq_len + 1 tokens: targets are the inputs shifted by one. Documents are packed into them
        # without padding (data/pools.py), and each process reads its own.
        loader = build_rows_loader(
            corpus.train,
            tokenizer,
            args.max_seq_len + 1,
            plan.device_batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            num_workers=args.num_workers,
            packing=packing,
        )
        # --- Loop: forward, backward, clip, step; logs, evaluations and checkpoints when due (training/loop.py).
        bpb = bits_per_byte_evaluation(
            corpus.validation, tokenizer, accelerator, plan, args.eval_tokens, args.eval_every
        )
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
            draw_loss(loop.metrics.records, output_dir / LOSS_CHART, facts.name, "base")
            keep_record(output_dir)  # of the documents it has read, if they are numbered
            if lora is not None:
                trained = save_and_merge(trained, output_dir / "adapter")
            save_model(trained, tokenizer, output_dir)
            print(f"finished: {output_dir} loads by AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)")
            after_training.publish_finished(target, output_dir)
    finally:
        accelerator.end_training()


def main(args: PretrainArguments) -> None:
    refuse_other_launchers(args)
    state = join_processes()
    with hold_output_dir(args.output_dir, state):
        pretrain(args, state)


if __name__ == "__main__":
    exit_on_input_error("pretrain", lambda: main(ARGS))
