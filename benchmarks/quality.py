"""Bits per byte, memory and the time to the first step of a short run: `python -m benchmarks.quality --dataset DIR`.

The setting is depth 4, rows of 512 tokens, 819,200 tokens in all, once in steps of 8,192 tokens and once in the batch
that is planned when none is given. Each run is recipes/pretrain.py in a process of its own, not compiled, as its
defaults would have it.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from modeling_nanochat import NanochatGPTForCausalLM
from recipes.arguments import Arguments, flag, parse_arguments
from recipes.data.corpora import Corpus, open_corpus
from recipes.data.packing import build_rows_loader
from recipes.errors import exit_on_input_error
from recipes.training.tracking import read_metrics
from tokenizer.encode import token_byte_lengths
from tokenizer.special_tokens import SMALLEST_VOCABULARY
from tokenizer.train import save_tokenizer, train_tokenizer

ROOT = Path(__file__).parent.parent
TOKENS, LENGTH, EVAL_TOKENS = 819_200, 512, 65_536


@dataclass
class BenchmarkArguments(Arguments):
    """What to train on."""

    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    batches: list[int] = flag([8192, 2048], "tokens a step, one run each", least=LENGTH, most=TOKENS)


def main() -> None:
    args = parse_arguments(BenchmarkArguments)
    corpus = open_corpus(args.dataset)
    with tempfile.TemporaryDirectory() as directory:
        tokenizer_dir = Path(directory, "tokenizer")
        save_tokenizer(train_tokenizer((row["text"] for row in corpus.train), args.vocab_size), tokenizer_dir)
        for batch in args.batches:
            model_dir = Path(directory, str(batch))
            run(args.dataset, batch, tokenizer_dir, model_dir)
            print(f"    the same model on other rows of the split: {on_other_rows(model_dir, corpus)}", flush=True)


def run(dataset: str, batch: int, tokenizer_dir: Path, output_dir: Path) -> None:
    """Train, and print what the run itself measured."""
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
    words = [sys.executable, "recipes/pretrain.py", *(f"--{name}={value}" for name, value in flags.items())]
    started = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    while is_running(process) and not read_metrics(output_dir / "metrics.jsonl"):
        time.sleep(0.05)
    first_step = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"recipes/pretrain.py failed with status {status}")
    bpb = read_metrics(output_dir / "metrics.jsonl")[-1]["val/bpb"]
    print(
        f"{batch:,} tokens a step, {TOKENS // batch} steps: val/bpb {bpb:.4f}; first step {first_step:.1f} s after "
        f"launch; {usage.ru_maxrss * 1024 / 1e9:.2f} GB resident at most",
        flush=True,
    )


def is_running(process: subprocess.Popen) -> bool:
    """Whether a process runs, without collecting its end, which os.wait4 is to do."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def on_other_rows(model_dir: Path, corpus: Corpus) -> str:
    """Bits per byte on the whole split end to end, and on its first rows when a pool is kept full by going round."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = NanochatGPTForCausalLM.from_pretrained(model_dir)
    byte_lengths = token_byte_lengths(tokenizer)

    def measure(num_rows: float, **options) -> float:
        def rows() -> Iterator[torch.Tensor]:
            seen = 0
            for batch in build_rows_loader(corpus.validation, tokenizer, LENGTH + 1, 8, **options):
                if seen >= num_rows:
                    return
                seen += len(batch["tokens"])
                yield batch["tokens"]

        return bits_per_byte(*sum_nats_and_bytes(model, rows(), byte_lengths).tolist())

    everything = measure(math.inf, packing="concatenated", epochs=1)
    going_round = measure(EVAL_TOKENS / LENGTH)
    return f"{everything:.4f} on all of it end to end, {going_round:.4f} on the first best-fit rows of an endless pool"


if __name__ == "__main__":
    exit_on_input_error("benchmarks.quality", main)
