"""Midtrain a base model on conversations: `accelerate launch recipes/midtrain.py --source DIR --conversations ...`.

The loop is pretraining's: packed rows, every token trained, and after Ctrl-C or SIGTERM the same command goes on. What
is not said is as in the run that trained the source, whose optimizer state this one begins with.
"""

import sys
from dataclasses import replace
from pathlib import Path

import datasets
from accelerate import PartialState
from transformers import PreTrainedTokenizerFast

from recipes.arguments import parse_arguments
from recipes.data.conversations import files_lines, open_conversations
from recipes.data.corpora import Corpus
from recipes.data.coverage import Coverage
from recipes.data.messages import choice_wording
from recipes.data.tokens import rows_of_one_pass, token_stream, tokenize_conversations
from recipes.errors import InputError, exit_on_input_error
from recipes.launches import record_launch
from recipes.loading import load_config
from recipes.publish.after_training import leave_finished
from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.checkpoints import find_checkpoint
from recipes.training.export import is_finished
from recipes.training.hardware import choose_precision
from recipes.training.models import load_tokenizer
from recipes.training.plan import Plan, check_batch, largest_divisor
from recipes.training.run import ARGUMENTS_FILE, claim_output_dir, join_processes
from recipes.training.setup import make_plan, train_and_save
from recipes.training.warm_start import read_arguments
from tokenizer.chat import add_chat_template

MOST_ROWS = 32  # that a process handles at a time when no number is given


def midtrain(args: MidtrainArguments) -> None:
    """The whole recipe, from a base model to one that knows the chat format."""
    state = join_processes()
    args = take_over(args, state)
    tokenizer = load_tokenizer(args)
    if not tokenizer.chat_template:
        add_chat_template(tokenizer)
    with state.main_process_first():  # the others find what it has tokenized in the cache, where there is one
        train, validation = (read_conversations(args, tokenizer, split) for split in ("train", "validation"))
    packing = "best_fit" if args.packing == "auto" else args.packing
    rows = rows_of_one_pass(train, args.max_seq_len + 1, packing, state.num_processes)
    one_pass = rows // (args.total_batch_size // (args.max_seq_len * state.num_processes))
    plan = plan_midtraining(args, len(tokenizer), state.num_processes, train, one_pass)
    output_dir = claim_output_dir(args, plan, state)
    if is_finished(output_dir):
        leave_finished(args, output_dir)
        return
    checkpoint = find_checkpoint(output_dir, args.resume)
    args = replace(
        args, packing=packing, num_workers=0
    )  # the workers have done their work: tokens are read faster than handed on
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


def read_conversations(args: MidtrainArguments, tokenizer: PreTrainedTokenizerFast, split: str) -> datasets.Dataset:
    """Token ids of all conversations of `split`."""
    wording = choice_wording(tokenizer, load_config(args.source))
    conversations = open_conversations(args.conversations, split, args.seed, wording)
    return tokenize_conversations(conversations, tokenizer, args.max_seq_len, args.num_workers)


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
    midtrain(parse_arguments(MidtrainArguments))


if __name__ == "__main__":
    exit_on_input_error("midtrain", main)
