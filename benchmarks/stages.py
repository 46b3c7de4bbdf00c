"""Tokens/s of midtraining and SFT against pretraining with equal shapes: `python -m benchmarks.stages`.

The recipes run in turns, each as users run it, in its own process; the speed is the median over the steps after
warm-up. All three train on the same number of rows of nearly the same length: conversations are joined until the next
exchange would not fit into the row.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.stages`; the defaults are the cpu preset's model on the embedded corpus."""

    depth: int = flag(4, "as of recipes/pretrain.py", least=1, most=1000)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    max_seq_len: int = flag(256, "tokens a row, of all three", least=1, most=2**24)
    device_batch_size: int = flag(8, "rows at a time, of all three", least=1)
    accumulation: int = flag(2, "micro-batches for an optimizer step, of all three", least=1)
    steps: int = flag(20, "measured steps a turn", least=1)
    warmup: int = flag(5, "steps before them", least=0)
    rounds: int = flag(3, "turns of each", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.stages", BenchmarkArguments)

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from recipes.data.conversations import open_conversations
from recipes.data.corpora import open_corpus
from recipes.utils.run_directory import METRICS, read_metrics
from tokenizer.bpe import save_tokenizer, train_tokenizer
from tokenizer.chat import Message, encode_conversation

ROOT = Path(__file__).parent.parent


def main(args: BenchmarkArguments) -> None:
    speeds: dict[str, list[float]] = {"pretraining": [], "midtraining": [], "SFT": []}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        documents = (row["text"] for row in open_corpus("primer").train)
        save_tokenizer(train_tokenizer(documents, args.vocab_size), directory / "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer")
        conversations = directory / "conversations.jsonl"
        write_full_rows(conversations, tokenizer, args)
        for turn in range(args.rounds):
            commands = build_commands(args, directory, conversations, turn)
            for stage, (command, metrics) in commands.items():
                speeds[stage].append(run(command, metrics, args.warmup))
            print(f"turn {turn + 1}: " + " | ".join(f"{k} {v[-1]:,.0f} tok/s" for k, v in speeds.items()), flush=True)
    for stage in ("midtraining", "SFT"):
        ratios = [mine / base for mine, base in zip(speeds[stage], speeds["pretraining"], strict=True)]
        print(f"{stage}: {statistics.median(ratios):.2f} x pretraining, median of {args.rounds} turns")


def write_full_rows(path: Path, tokenizer: PreTrainedTokenizerFast, args: BenchmarkArguments) -> None:
    """Write as many conversations as the stages will read, each filling a row with as many exchanges as fit."""
    needed = 2 * (args.steps + args.warmup) * args.accumulation * args.device_batch_size
    sources = iter(row["messages"] for row in open_conversations("primer:mid"))
    row: list[Message] = []
    with path.open("w") as file:
        while needed:
            exchange = [message for message in next(sources) if message["role"] != "system"]
            if len(encode_conversation(tokenizer, row + exchange)[0]) > args.max_seq_len:
                file.write(json.dumps(row) + "\n")
                needed, row = needed - 1, []
            row += exchange


def build_commands(
    args: BenchmarkArguments, directory: Path, conversations: Path, turn: int
) -> dict[str, tuple[list[str], Path]]:
    """The three commands of a turn, without compilation, each with the metrics file that it writes."""
    run_dir = directory / f"turn{turn}"
    steps = args.steps + args.warmup
    loop = {
        "total_batch_size": args.accumulation * args.device_batch_size * args.max_seq_len,
        "device_batch_size": args.device_batch_size,
        "num_iterations": steps,
        "max_seq_len": args.max_seq_len,
        "compile": "false",
        "eval_every": -1,
        "sample_every": -1,
        "save_every": 0,
    }
    base = {**loop, "dataset": "primer", "tokenizer": directory / "tokenizer", "depth": args.depth}
    mid = {**loop, "source": run_dir / "base", "conversations": conversations}
    sft = {
        "source": "base",
        "conversations": conversations,
        "per_device_train_batch_size": args.device_batch_size,
        "gradient_accumulation_steps": args.accumulation,
        "max_steps": steps,
        "logging_steps": 1,
        "eval_strategy": "no",
        "load_best_model_at_end": False,
        "save_strategy": "no",
    }
    stages = {
        "pretraining": ("pretrain", "base", base),
        "midtraining": ("midtrain", "mid", mid),
        "SFT": ("sft", "sft", sft),
    }
    return {
        stage: (command(script, {**flags, "output_dir": run_dir / name}), run_dir / name / METRICS)
        for stage, (script, name, flags) in stages.items()
    }


def command(script: str, flags: dict[str, Any]) -> list[str]:
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [sys.executable, str(ROOT / "recipes" / f"{script}.py"), *words]


def run(words: list[str], metrics: Path, warmup: int) -> float:
    """Run a command, and return its median tokens/s after warm-up."""
    process = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if process.returncode != 0:
        sys.exit(process.stdout)
    records = [record for record in read_metrics(metrics) if "train/tok_per_sec" in record]
    return statistics.median(record["train/tok_per_sec"] for record in records[warmup:])


if __name__ == "__main__":
    exit_on_input_error("benchmarks.stages", lambda: main(ARGS))
