"""Pretrain a base model: `accelerate launch recipes/pretrain.py --config recipes/configs/cpu.yaml --tokenizer DIR`.

Stop it by Ctrl-C or SIGTERM and give the same command again: it goes on where it stopped, bit for bit on a CPU.
"""

from dataclasses import replace

from recipes.arguments import parse_arguments
from recipes.data.corpora import open_corpus
from recipes.data.coverage import measure_coverage
from recipes.errors import exit_on_input_error
from recipes.launches import record_launch
from recipes.publish.after_training import leave_finished
from recipes.training.arguments import PretrainArguments
from recipes.training.checkpoints import find_checkpoint
from recipes.training.export import is_finished
from recipes.training.hardware import choose_precision
from recipes.training.models import load_tokenizer
from recipes.training.plan import dry_run_lines
from recipes.training.run import claim_output_dir, join_processes
from recipes.training.setup import make_plan, train_and_save


def pretrain(args: PretrainArguments) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    tokenizer = load_tokenizer(args)
    state = join_processes()
    plan = make_plan(args, len(tokenizer), state.num_processes)
    output_dir = claim_output_dir(args, plan, state)
    if is_finished(output_dir):
        leave_finished(args, output_dir)
        return
    checkpoint = find_checkpoint(output_dir, args.resume)
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged)
    coverage = measure_coverage(corpus, tokenizer, args.max_seq_len + 1)
    if args.packing == "auto":
        args = replace(args, packing=coverage.choose_packing(plan.num_tokens) if coverage else "best_fit")
    precision = choose_precision(args.mixed_precision, state.device)
    record_launch(output_dir, data=args.dataset, files=corpus.files and corpus.files.names(), precision=precision)
    train_and_save(args, plan, tokenizer, corpus, output_dir, checkpoint, coverage=coverage)


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
