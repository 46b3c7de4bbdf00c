"""Bits per byte after equal steps with each packing: `python -m benchmarks.packing --dataset DATA`.

Each run is recipes/pretrain.py in its own process, with the same tokenizer, steps and seeds. Bits per byte are
`val/bpb` on the whole validation split, concatenated.
"""

import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.packing`."""

    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    depth: int = flag(4, "the dial", least=1, most=1000)
    max_seq_len: int = flag(512, "tokens a row", least=1, most=2**24)
    total_batch_size: int = flag(4096, "tokens a step", least=1)
    num_iterations: int = flag(200, "steps", least=1)
    seeds: list[int] = flag([0, 1, 2], "a run each, for each packing", least=0, below=2**32)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.packing", BenchmarkArguments)

from recipes.data.corpora import open_corpus
from recipes.data.coverage import measure_coverage
from recipes.data.pools import POOLS
from recipes.utils.run_directory import METRICS, read_metrics
from tokenizer.bpe import save_tokenizer, train_tokenizer

ROOT = Path(__file__).parent.parent
ALL_TOKENS = 10**9


def main(args: BenchmarkArguments) -> None:
    corpus = open_corpus(args.dataset)
    tokens = args.num_iterations * args.total_batch_size
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = train_tokenizer((row["text"] for row in corpus.train), args.vocab_size)
        save_tokenizer(tokenizer, Path(directory, "tokenizer"))
        coverage = measure_coverage(corpus, tokenizer, args.max_seq_len + 1)
        if coverage is not None:
            print(f"auto chooses {coverage.choose_packing(tokens)}", flush=True)
        for packing in POOLS:
            scores = [train(args, packing, seed, Path(directory)) for seed in args.seeds]
            listed = ", ".join(f"{score:.4f}" for score in scores)
            seen = f"; {coverage.line(tokens, packing)}" if coverage is not None else ""
            print(f"{packing:<16}val/bpb {statistics.median(scores):.4f} ({listed}){seen}", flush=True)


def train(args: BenchmarkArguments, packing: str, seed: int, directory: Path) -> float:
    """Bits per byte at the end of a run."""
    output_dir = directory / f"{packing}_{seed}"
    flags = {
        "dataset": args.dataset,
        "tokenizer": directory / "tokenizer",
        "output_dir": output_dir,
        "depth": args.depth,
        "max_seq_len": args.max_seq_len,
        "device_batch_size": min(8, args.total_batch_size // args.max_seq_len),
        "total_batch_size": args.total_batch_size,
        "num_iterations": args.num_iterations,
        "packing": packing,
        "seed": seed,
        "eval_every": 0,
        "eval_tokens": ALL_TOKENS,
        "sample_every": -1,
        "save_every": 0,
    }
    words = [
        sys.executable,
        str(ROOT / "recipes" / "pretrain.py"),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return read_metrics(output_dir / METRICS)[-1]["val/bpb"]


if __name__ == "__main__":
    exit_on_input_error("benchmarks.packing", lambda: main(ARGS))
