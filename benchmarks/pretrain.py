"""Speed and memory of pretraining against a plain loop: `python -m benchmarks.pretrain`.

Both sides are measured in turns, so that a machine whose speed drifts favours neither. The recipe runs as users run
it: recipes/pretrain.py in its own process, with optimizer and data; its speed is the median over the steps after
warm-up. The plain loop has no cost for data. The peak FLOP/s are measured by a short bf16 product on a CPU, and taken
from the data sheet for a GPU.
"""

import multiprocessing
import os
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
    """Flags of `python -m benchmarks.pretrain`; the defaults are a depth-4 model on the embedded corpus."""

    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    depth: int = flag(4, "as of recipes/pretrain.py", least=1, most=1000)
    max_seq_len: int = flag(512, "as of recipes/pretrain.py", least=1, most=2**24)
    device_batch_size: int = flag(8, "rows at a time, of both loops", least=1)
    total_batch_size: int = flag(8192, "tokens an optimizer step of the recipe", least=1)
    steps: int = flag(20, "measured steps a turn", least=1)
    warmup: int = flag(5, "steps before them, compilation included", least=0)
    rounds: int = flag(3, "turns of each side", least=1)
    compile: str = flag(
        "true", "as of recipes/pretrain.py; the plain loop is compiled", choices=("auto", "true", "false")
    )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.pretrain", BenchmarkArguments)

import torch

from benchmarks.plain_loop import plain_tokens_per_second
from modeling_nanochat import NanochatGPTConfig
from recipes.data.corpora import open_corpus
from recipes.utils.hardware import peak_flops
from recipes.utils.run_directory import METRICS, read_metrics
from tokenizer.bpe import save_tokenizer, train_tokenizer

ROOT = Path(__file__).parent.parent


@dataclass
class Turn:
    """Measurements of one turn."""

    peak: float  # FLOP/s
    plain: float  # tokens/s
    recipe: float  # tokens/s
    memory: int  # bytes resident, recipe


def main(args: BenchmarkArguments) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = NanochatGPTConfig.from_depth(
        args.depth, vocab_size=args.vocab_size, max_position_embeddings=args.max_seq_len
    )
    flops = config.flops_per_token(args.max_seq_len)
    print(f"depth {args.depth}, vocabulary {args.vocab_size:,}, rows of {args.max_seq_len}, {flops:,} FLOPs a token")
    with tempfile.TemporaryDirectory() as directory:
        tokenizer_dir = Path(directory, "tokenizer")
        documents = (row["text"] for row in open_corpus(args.dataset).train)
        save_tokenizer(train_tokenizer(documents, args.vocab_size, max_chars=50_000_000), tokenizer_dir)
        turns = []
        for number in range(args.rounds):
            turn = measure_turn(args, config, device, tokenizer_dir, Path(directory, f"run{number}"))
            turns.append(turn)
            print(f"turn {number + 1}: " + describe(turn, flops), flush=True)
    middle = [statistics.median(ratio) for ratio in zip(*(ratios(turn, flops) for turn in turns), strict=True)]
    print(
        f"median of {args.rounds} turns: {middle[0]:.2f} x the plain loop, {middle[1]:.0%} of the peak, "
        f"{statistics.median(turn.recipe for turn in turns):,.0f} tokens/s, "
        f"{max(turn.memory for turn in turns) / 1e9:.2f} GB resident at most"
    )


def measure_turn(
    args: BenchmarkArguments, config: NanochatGPTConfig, device: str, tokenizer_dir: Path, output_dir: Path
) -> Turn:
    """Measure peak, plain loop and recipe, one after the other."""
    peak = peak_flops(torch.device(device), torch.bfloat16) or float("nan")
    options = (config, args.device_batch_size, args.steps, args.warmup, device)
    with multiprocessing.get_context("spawn").Pool(1) as fresh_process:
        plain = fresh_process.apply(plain_tokens_per_second, options)
    recipe, memory = run_recipe(args, tokenizer_dir, output_dir)
    return Turn(peak, plain, recipe, memory)


def run_recipe(args: BenchmarkArguments, tokenizer_dir: Path, output_dir: Path) -> tuple[float, int]:
    """Median tokens/s of recipes/pretrain.py after warm-up, and its peak resident memory in bytes."""
    flags = {
        "dataset": args.dataset,
        "tokenizer": tokenizer_dir,
        "output_dir": output_dir,
        "depth": args.depth,
        "max_seq_len": args.max_seq_len,
        "device_batch_size": args.device_batch_size,
        "total_batch_size": args.total_batch_size,
        "num_iterations": args.warmup + args.steps,
        "compile": args.compile,
        "eval_every": -1,
        "sample_every": -1,
        "save_every": 0,
    }
    words = [f"--{name}={value}" for name, value in flags.items()]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes" / "pretrain.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(output)
    speeds = [record["train/tok_per_sec"] for record in read_metrics(output_dir / METRICS)]
    return statistics.median(speeds[args.warmup :]), usage.ru_maxrss * 1024


def ratios(turn: Turn, flops_per_token: int) -> tuple[float, float]:
    """Speed relative to the plain loop, and share of the peak."""
    return turn.recipe / turn.plain, turn.recipe * flops_per_token / turn.peak


def describe(turn: Turn, flops_per_token: int) -> str:
    ratio, share = ratios(turn, flops_per_token)
    return (
        f"peak {turn.peak / 1e9:,.0f} GFLOP/s | plain {turn.plain:,.0f} tok/s | recipe {turn.recipe:,.0f} tok/s "
        f"= {ratio:.2f} x plain = {share:.0%} of peak | {turn.memory / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    exit_on_input_error("benchmarks.pretrain", lambda: main(ARGS))
