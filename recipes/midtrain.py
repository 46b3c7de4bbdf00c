"""Midtrain a base model on conversations: `accelerate launch recipes/midtrain.py --source DIR --conversations ...`.

The loop is pretraining's: packed rows, every token trained, and after Ctrl-C or SIGTERM the same command goes on. What
is not said is as in the run that trained the source, whose optimizer state this one begins with.
"""

import sys
from dataclasses import replace
from pathlib import Path

import datasets
from accelerate import PartialState

from recipes.data.conversations import files_lines, open_conversations
from recipes.data.corpora import Corpus
from recipes.data.coverage import Coverage
from recipes.data.messages import choice_wording
from recipes.data.tokens import rows_of_one_pass, token_stream, tokenize_conversations
from recipes.publish.after_training import hub_target, publish_already_finished
from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.fingerprint import fingerprint_conversations, fingerprint_model
from recipes.training.models import load_tokenizer
from recipes.training.output_dir import (
    ARGUMENTS_FILE,
    choose_checkpoint,
    claim_inputs,
    claim_output_dir,
    held,
    read_arguments,
)
from recipes.training.plan import Plan, check_batch, largest_divisor
from recipes.training.run import settings
from recipes.training.setup import make_plan, train_and_save
from recipes.utils.arguments import parse_arguments, resumable_flags
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.hardware import choose_precision
from recipes.utils.loading import load_config
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch
from tokenizer.chat import add_chat_template

INPUTS = {"source", "conversations"}
MOST_ROWS = 32  # that a process handles at a time when no number is given


def midtrain(args: MidtrainArguments, state: PartialState) -> None:
    """The whole recipe, from a base model to one that knows the chat format."""
    args = take_over(args, state)
    tokenizer = load_tokenizer(args)
    if not tokenizer.chat_template:
        add_chat_template(tokenizer)
    output_dir, arguments = Path(args.output_dir), settings(args, "midtrain", state)
    if claim_output_dir(output_dir, arguments, resumable_flags(MidtrainArguments), INPUTS, state):
        target = hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
        publish_already_finished(target, output_dir)
        return
    wording = choice_wording(tokenizer, load_config(args.source))
    # One process of each machine first, where caches lie: the others find what it has read and tokenized.
    with state.local_main_process_first():
        conversations = {
            split: open_conversations(args.conversations, split, args.seed, wording)
            for split in ("train", "validation")
        }
        train, validation = (
            tokenize_conversations(each, tokenizer, args.max_seq_len, args.num_workers)
            for each in conversations.values()
        )
    claim_inputs(
        output_dir,
        arguments,
        lambda: {
            "source": fingerprint_model(args.source),
            "conversations": fingerprint_conversations(args.conversations, **conversations),
        },
        state,
    )
    checkpoint = choose_checkpoint(output_dir, args.resume, state)
    packing = "best_fit" if args.packing == "auto" else args.packing
    rows = rows_of_one_pass(train, args.max_seq_len + 1, packing, state.num_processes)
    one_pass = rows // (args.total_batch_size // (args.max_seq_len * state.num_processes))
    plan = plan_midtraining(args, len(tokenizer), state.num_processes, train, one_pass)
    # The workers have done their work: tokens are read faster than they are handed on.
    args = replace(args, packing=packing, num_workers=0)
    precision = choose_precision(args.mixed_precision, state.device)
    record_launch(output_dir, data=args.conversations, source=args.source, precision=precision)
    streams = (token_stream(tokens, state.num_processes) for tokens in (train, validation))
    train_and_save(
        args,
        plan,
        tokenizer,
        Corpus("; ".join(files_lines(args.conversations)) or args.conversations, *streams),
        output_dir,
        checkpoint,
        epochs=1 if plan.num_steps <= one_pass else None,
        source=args.source,
        coverage=Coverage(
            tokens := sum(train["length"]), True, rows * (args.max_seq_len + 1) * state.num_processes / tokens
        ),
    )


def take_over(args: MidtrainArguments, state: PartialState) -> MidtrainArguments:
    """`args` with what was not given as it was in the run that trained the source, or else by default. Prints it."""
    context = getattr(load_config(args.source), "max_position_embeddings", PretrainArguments.max_seq_len)
    theirs = {"max_seq_len": context} | read_arguments(args.source)
    missing = [name for name in args.TAKEN_OVER if getattr(args, name) is None]
    try:
        args = replace(args, **{name: theirs.get(name, getattr(PretrainArguments, name)) for name in missing})
    except InputError as error:
        raise InputError(f"{Path(args.source, ARGUMENTS_FILE)}: {error}") from None
    if args.total_batch_size is None:
        raise InputError(f"{args.source} does not say what it was trained with: give --total_batch_size (tokens).")
    check_batch(args.total_batch_size, args.device_batch_size or 1, args.max_seq_len, state.num_processes)
    taken = (f"{name} {theirs[name]}" for name in missing if theirs.get(name) is not None)
    state.print(f"{'source':<13}{args.source}, which had {', '.join(taken) or 'nothing to take over'}")
    rows = args.total_batch_size // (args.max_seq_len * state.num_processes)
    return replace(args, device_batch_size=args.device_batch_size or largest_divisor(rows, MOST_ROWS))


def source_tokens(source: str) -> int | None:
    """Tokens of the run that trained `source`, whose settings this stage keeps; None if it is not known."""
    theirs = read_arguments(source)
    steps, batch = theirs.get("num_iterations"), theirs.get("total_batch_size")
    return steps * batch if isinstance(steps, int) and isinstance(batch, int) else None


def plan_midtraining(
    args: MidtrainArguments, vocab_size: int, world_size: int, tokens: datasets.Dataset, one_pass: int
) -> Plan:
    """The run in numbers: `one_pass` steps unless told otherwise. Raises `InputError` if these are none."""
    by_rule = args.num_iterations is None
    if by_rule and one_pass == 0:
        raise InputError(
            f"{args.conversations}: {len(tokens):,} conversations ({sum(tokens['length']):,} tokens) are too few for "
            f"one step of {args.total_batch_size:,} tokens. Use more of them, or a smaller total_batch_size."
        )
    args = replace(args, num_iterations=args.num_iterations or one_pass)
    plan = make_plan(args, vocab_size, world_size, source_tokens(args.source))
    if by_rule:
        plan = replace(plan, reasons=plan.reasons | {"horizon": f"one pass over {len(tokens):,} conversations"})
    return plan.with_learning_rates_times(args.init_lr_frac)


def main() -> None:
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    args, state = parse_arguments(MidtrainArguments), join_processes()
    with held(args.output_dir, state):
        midtrain(args, state)


if __name__ == "__main__":
    exit_on_input_error("midtrain", main)
