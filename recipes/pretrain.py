"""Pretrain a base model: `accelerate launch recipes/pretrain.py --config recipes/configs/cpu.yaml --tokenizer DIR`.

Stop it by Ctrl-C or SIGTERM and give the same command again: it goes on where it stopped, bit for bit on a CPU.
"""

from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from recipes.data.corpora import Corpus, open_corpus
from recipes.data.coverage import measure_coverage
from recipes.publish.after_training import hub_target, publish_already_finished
from recipes.training.arguments import PretrainArguments
from recipes.training.fingerprint import (
    Fingerprint,
    fingerprint_corpus,
    fingerprint_model,
    fingerprint_tokenizer,
)
from recipes.training.models import load_tokenizer
from recipes.training.output_dir import choose_checkpoint, claim_inputs, claim_output_dir, held
from recipes.training.plan import dry_run_lines
from recipes.training.run import settings
from recipes.training.setup import make_plan, train_and_save
from recipes.utils.arguments import parse_arguments, resumable_flags
from recipes.utils.errors import exit_on_input_error
from recipes.utils.hardware import choose_precision
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch

INPUTS = {"dataset", "tokenizer", "model_config", "model_name_or_path"}


def pretrain(args: PretrainArguments, state: PartialState) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    tokenizer = load_tokenizer(args)
    plan = make_plan(args, len(tokenizer), state.num_processes)
    output_dir = Path(args.output_dir)
    planned = {"total_batch_size": plan.total_batch_size, "num_iterations": plan.num_steps}
    arguments = settings(args, "pretrain", state, **planned)
    if claim_output_dir(output_dir, arguments, resumable_flags(PretrainArguments), INPUTS, state):
        target = hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
        publish_already_finished(target, output_dir)
        return
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged)
    claim_inputs(output_dir, arguments, lambda: fingerprints(args, corpus), state)
    checkpoint = choose_checkpoint(output_dir, args.resume, state)
    coverage = measure_coverage(corpus, tokenizer, args.max_seq_len + 1)
    if args.packing == "auto":
        args = replace(args, packing=coverage.choose_packing(plan.num_tokens) if coverage else "best_fit")
    precision = choose_precision(args.mixed_precision, state.device)
    record_launch(output_dir, data=args.dataset, files=corpus.files and corpus.files.names(), precision=precision)
    train_and_save(args, plan, tokenizer, corpus, output_dir, checkpoint, coverage=coverage)


def fingerprints(args: PretrainArguments, corpus: Corpus) -> dict[str, Fingerprint]:
    """Of all that the run reads."""
    models = {name: getattr(args, name) for name in ("model_config", "model_name_or_path")}
    return {
        "dataset": fingerprint_corpus(corpus),
        "tokenizer": fingerprint_tokenizer(args.tokenizer or args.model_name_or_path),
    } | {name: fingerprint_model(value) for name, value in models.items() if value}


def dry_run(args: PretrainArguments) -> None:
    """Print what a run would be, without data and weights."""
    vocab_size = len(load_tokenizer(args)) if args.tokenizer or args.model_name_or_path else args.vocab_size
    plan = make_plan(args, vocab_size, args.gpus)
    print("\n".join([*plan.lines(), *dry_run_lines(args, plan)]))


def main() -> None:
    args = parse_arguments(PretrainArguments)
    if args.dry_run:
        dry_run(args)
        return
    state = join_processes()
    with held(args.output_dir, state):
        pretrain(args, state)


if __name__ == "__main__":
    exit_on_input_error("pretrain", main)
