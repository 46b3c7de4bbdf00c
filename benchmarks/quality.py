"""Bits per byte, memory and the time to the first step of a short run: `python -m benchmarks.quality --dataset DIR`.

The setting is depth 4, rows of 512 tokens, 819,200 tokens in all; once with steps of 8,192 tokens, and once with the
batch size that the plan chooses by default. Each run is recipes/pretrain.py in its own process with default settings,
not compiled.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY

TOKENS, LENGTH, EVAL_TOKENS = 819_200, 512, 65_536


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.quality`."""

    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    batches: list[int] = flag([8192, 2048], "tokens a step, one run each", least=LENGTH, most=TOKENS)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.quality", BenchmarkArguments)

from transformers import AutoTokenizer

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from modeling_nanochat import NanochatGPTForCausalLM
from recipes.data.corpora import Corpus, open_corpus
from recipes.data.packing import build_rows_loader
from recipes.utils.run_directory import METRICS, read_metrics
from tokenizer.bpe import save_tokenizer, train_tokenizer
from tokenizer.encode import token_byte_lengths

ROOT = Path(__file__).parent.parent


def main(args: BenchmarkArguments) -> None:
    corpus = open_corpus(args.dataset)
    with tempfile.TemporaryDirectory() as directory:
        tokenizer_dir = Path(directory, "tokenizer")
        save_tokenizer(train_tokenizer((row["text"] for row in corpus.train), args.vocab_size), tokenizer_dir)
        for batch in args.batches:
            model_dir = Path(directory, str(batch))
            run(args.dataset, batch, tokenizer_dir, model_dir)
            print(
                f"    on the first best-fit rows of an endless pool: {on_other_rows(model_dir, corpus):.4f}",
                flush=True,
            )


def run(dataset: str, batch: int, tokenizer_dir: Path, output_dir: Path) -> None:
    """Train a model, and print the run's measurements."""
    flags = {
        "dataset": dataset,
        "tokenizer": tokenizer_dir,
        "output_dir": output_dir,
        "depth": 4,
        "max_seq_len": LENGTH,
        "device_batch_size": min(8, batch // LENGTH),
        "total_batch_size": batch,
        "num_iterations": TOKENS // batch,
        "eval_every": 0,
        "eval_tokens": EVAL_TOKENS,
        "sample_every": -1,
        "save_every": 0,
    }
    words = [
        sys.executable,
        str(ROOT / "recipes" / "pretrain.py"),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while is_running(process) and not read_metrics(output_dir / METRICS):
        time.sleep(0.05)
    first_step = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"recipes/pretrain.py failed with status {status}")
    bpb = read_metrics(output_dir / METRICS)[-1]["val/bpb"]
    print(
        f"{batch:,} tokens a step, {TOKENS // batch} steps: val/bpb {bpb:.4f}; first step {first_step:.1f} s after "
        f"launch; {usage.ru_maxrss * 1024 / 1e9:.2f} GB resident at most",
        flush=True,
    )


def is_running(process: subprocess.Popen) -> bool:
    """Whether a process is running. Does not reap it, since os.wait4 needs to."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def on_other_rows(model_dir: Path, corpus: Corpus) -> float:
    """Bits per byte on the first best-fit rows of an endlessly repeated validation split, as in nanochat's loader.

    Such rows prefer short documents, which are easier.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = NanochatGPTForCausalLM.from_pretrained(model_dir)
    byte_lengths = token_byte_lengths(tokenizer)

    loader = build_rows_loader(corpus.validation, tokenizer, LENGTH + 1, 8, packing="best_fit")
    rows = (batch["tokens"] for batch in islice(loader, EVAL_TOKENS // (LENGTH * 8)))
    return bits_per_byte(*sum_nats_and_bytes(model, rows, byte_lengths).tolist())


if __name__ == "__main__":
    exit_on_input_error("benchmarks.quality", lambda: main(ARGS))
