"""Tokenize a corpus once, into files to train from: `python -m recipes.data.prepare --dataset D --tokenizer T ...`."""

from dataclasses import dataclass

from recipes.data.splits import DOCUMENT_SEPARATORS
from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error


@dataclass
class PrepareArguments(Arguments):
    """Flags of `python -m recipes.data.prepare`; `--config file.yaml` sets any of them."""

    dataset: str = flag(REQUIRED, "primer, a local file, directory or glob, or a Hub id", path=True)
    tokenizer: str = flag(REQUIRED, "directory or Hub id of the tokenizer", path=True)
    output_dir: str = flag(
        REQUIRED, "directory of the prepared corpus, which is the --dataset to train from", path=True
    )
    text_column: str | None = flag(None, "column that holds the text (default: text)")
    document_separator: str = flag(
        "auto", "where documents of .txt files end: as in pretraining", choices=DOCUMENT_SEPARATORS
    )
    skip_damaged: bool = flag(False, "skip damaged files and rows, with a warning")
    max_tokens: int | None = flag(
        None, "stop when the training split has this many tokens (default: the whole corpus)", least=1
    )
    shard_tokens: int = flag(
        100_000_000, "tokens of a file; they are shuffled in memory, and validation has one file", least=1, most=2**30
    )
    seed: int = flag(0, "seed of the order of documents", least=0, below=2**32)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("data.prepare", PrepareArguments)

from pathlib import Path
from typing import Any

from recipes.data.corpora import open_corpus
from recipes.data.prepared import find_prepared
from recipes.data.shards import describe_request, differing, write_corpus
from recipes.utils import loading
from recipes.utils.errors import InputError
from recipes.utils.outputs import LOCK, hold

WIDEST_BAR = 40  # characters


def prepare(args: PrepareArguments) -> None:
    """Write the prepared corpus, unless it is there already, and print what is in it."""
    output_dir = Path(args.output_dir)
    check_apart(output_dir, args.dataset)
    loading.check_source(args.tokenizer, "tokenizer")
    tokenizer = loading.load_tokenizer(args.tokenizer)
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {args.tokenizer} is not a fast one (tokenizer.json): convert it first.")
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged, args.document_separator)
    request = describe_request(corpus, tokenizer, args.dataset, args.shard_tokens, args.max_tokens, args.seed)
    if (there := find_there(output_dir)) is not None:
        if changed := differing(there, request):
            raise InputError(
                f"output_dir {output_dir} holds a corpus that was prepared otherwise ({'; '.join(changed)}): choose "
                "another."
            )
        print(f"{output_dir} is prepared already")
        manifest = there
    else:
        print(f"data          {corpus.line()}")
        manifest = write_corpus(corpus, tokenizer, request, output_dir)
    print("\n".join(summary(manifest)))
    print(f"prepared      {output_dir}: give it to recipes/pretrain.py by --dataset {output_dir}")


def check_apart(output_dir: Path, dataset: str) -> None:
    """Raise `InputError` if `output_dir` lies in the directory `dataset`, where its files would be read as data."""
    source = Path(dataset).expanduser()
    inside = source.is_dir() and output_dir.resolve().is_relative_to(source.resolve())
    if inside and dataset != "primer":
        raise InputError(f"output_dir {output_dir} lies in the dataset {dataset}: choose a directory beside it.")


def find_there(output_dir: Path) -> dict[str, Any] | None:
    """The manifest of the prepared corpus in `output_dir`; None if it is missing or empty, else `InputError`."""
    if not output_dir.is_dir() or all(path.name.endswith(LOCK) for path in output_dir.iterdir()):
        return None  # the lock of output_dir "." lies in it
    if (prepared := find_prepared(str(output_dir))) is None:
        raise InputError(f"output_dir {output_dir} holds other files: choose a new directory.")
    return prepared.manifest


def summary(manifest: dict[str, Any]) -> list[str]:
    """Lines for people: what the splits hold, and how long the documents to train on are."""
    lines = []
    for split, label in (("train", "training"), ("validation", "validation")):
        figures = manifest["splits"][split]
        num_bytes = sum(shard["bytes"] for shard in figures["shards"])
        shards = f"{len(figures['shards']):,} shard(s) of {manifest['dtype']}, {num_bytes / 1e6:,.1f} MB"
        lines.append(f"{label:<14}{figures['tokens']:,} tokens in {figures['documents']:,} documents; {shards}")
    counts = manifest["splits"]["train"]["lengths"]
    most = max(counts.values())
    for number, (least, count) in enumerate(counts.items()):
        label = "lengths" if number == 0 else ""
        span = f"{int(least):,} to {2 * int(least) - 1:,}"
        lines.append(f"{label:<14}{span:>22} tokens: {count:>12,} {'#' * round(WIDEST_BAR * count / most)}".rstrip())
    return lines


def main(args: PrepareArguments) -> None:
    with hold(args.output_dir, replaced=True):
        prepare(args)


if __name__ == "__main__":
    exit_on_input_error("data.prepare", lambda: main(ARGS))
