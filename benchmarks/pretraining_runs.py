"""Runs of recipes/pretrain.py that a benchmark compares, each in its own process. Finished ones are not run again."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from recipes.data.corpora import open_corpus
from recipes.training.arguments import PretrainArguments
from recipes.training.output_dir import read_arguments
from recipes.training.plan import Plan
from recipes.training.rules import RULES, with_rules
from recipes.utils import loading
from recipes.utils.arguments import resumable_flags
from recipes.utils.child_process import launcher, wait_for
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from recipes.utils.run_directory import TOKENIZER, is_finished
from tokenizer.bpe import save_tokenizer, train_tokenizer

TOKENIZER_CHARS = 50_000_000  # that the tokenizer is trained on at most
WHOLE_SPLIT = 2**40  # tokens: more than any validation split has


@dataclass(frozen=True)
class Run:
    """A run of recipes/pretrain.py that is to be made, or has been: `plan` is what follows from `args`."""

    directory: Path
    words: tuple[str, ...]  # its command line
    args: PretrainArguments
    plan: Plan
    budget: float | None = None  # FLOPs; None where something else decides


def provide_tokenizer(recipe: PretrainArguments, vocab_size: int, directory: Path) -> Path:
    """The tokenizer in `directory`, which is trained on the dataset unless it is there already."""
    if not (directory / TOKENIZER).is_file():
        corpus = open_corpus(recipe.dataset, recipe.text_column, recipe.skip_damaged, recipe.document_separator)
        documents = (row["text"] for row in corpus.train)
        save_tokenizer(train_tokenizer(documents, vocab_size, TOKENIZER_CHARS), directory)
    elif (found := len(loading.load_tokenizer(str(directory)))) != vocab_size:
        raise InputError(
            f"vocab_size {vocab_size:,}: {directory} has {found:,} tokens already; choose another output_dir, or "
            f"--vocab_size {found}."
        )
    return directory


def is_done(run: Run) -> bool:
    """Whether a run is finished. Raises `InputError` if the finished one was another."""
    if not is_finished(run.directory):
        return False
    theirs, planned = read_arguments(run.directory), run.plan
    given = with_rules(run.args, RULES[planned.facts.generation])  # as recipes/pretrain.py records them
    mine = asdict(given) | {"total_batch_size": planned.total_batch_size, "num_iterations": planned.num_steps}
    names = theirs.keys() & mine.keys() - resumable_flags(PretrainArguments)
    changed = [
        f"{name} {theirs[name]!r} there, {mine[name]!r} now" for name in sorted(names) if theirs[name] != mine[name]
    ]
    if changed:
        raise InputError(f"{run.directory} is another run ({'; '.join(changed)}): choose another output_dir.")
    return True


def train(run: Run) -> None:
    """Make a run, or go on with it. Ends the program if it is stopped by a signal, with a checkpoint."""
    log = log_of(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        command = [*launcher(num_processes()), str(ROOT / "recipes" / "pretrain.py"), *run.words]
        code = wait_for(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        raise InputError(f"{run.directory} failed, see {log}: {lines[-1]}")
    if not is_finished(run.directory):
        print("stopped; run the same command again to continue", flush=True)
        sys.exit(0)


def log_of(run: Run) -> Path:
    """What a run prints: to follow it as it goes, `tail -f`."""
    return run.directory.with_name(f"{run.directory.name}.log")


def num_processes() -> int:
    """One for each GPU of this machine; one on a CPU."""
    return max(1, torch.cuda.device_count())
