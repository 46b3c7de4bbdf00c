"""Speed of batched CORE against one example at a time: `python -m benchmarks.core --bundle DIR`.

Both sides answer the same questions with the same model, task by task in turns. The ratio is of their total seconds,
including tokenization, and all answers are compared. Without `--model` the weights, and so the answers, are random.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.core`."""

    bundle: str = flag(REQUIRED, "directory of CORE's tasks", path=True)
    model: str | None = flag(None, "directory or Hub id of a causal LM (default: a fresh one)", path=True)
    depth: int = flag(4, "of the fresh model", least=1, most=1000)
    vocab_size: int = flag(4096, "of the fresh model and its tokenizer", least=SMALLEST_VOCABULARY, most=2**24)
    max_seq_len: int = flag(2048, "context of the fresh model, in tokens", least=2, most=2**24)
    max_problems: int = flag(100, "examples of each task", least=1)
    batch_tokens: int | None = flag(None, "tokens that go through the model at once (default: by device)", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.core", BenchmarkArguments)

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.core_reference import answer_one
from evals.core.bundle import available, check_enough, read_examples, read_tasks
from evals.core.evaluate import evaluate_task
from evals.core.questions import order_examples
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.corpora import open_corpus
from recipes.inference.generate import context_length
from recipes.inference.models import load_model
from tokenizer.bpe import train_tokenizer


def main(args: BenchmarkArguments) -> None:
    bundle = Path(args.bundle)
    tasks = available(read_tasks(bundle), bundle)
    check_enough(tasks, args.max_problems)
    model, tokenizer = load_model(args.model) if args.model else build_fresh(args)
    context = context_length(model)
    parameters = sum(each.numel() for each in model.parameters())
    print(
        f"{args.model or 'a fresh model'}, {parameters / 1e6:.1f}M parameters, context {context:,}, {model.dtype}, "
        f"{model.device.type}, {torch.get_num_threads()} threads, {args.max_problems} examples a task"
    )
    print(f"{'task':<34}{'one at a time':>15}{'batched':>10}{'ratio':>8}{'same decisions':>18}")
    totals, same, count = [0.0, 0.0], 0, 0
    for task in tasks:
        examples = order_examples(read_examples(task, bundle), args.max_problems)
        started = time.perf_counter()
        expected = [answer_one(model, tokenizer, task, examples, i, context) for i in range(len(examples))]
        between = time.perf_counter()
        answers = evaluate_task(model, tokenizer, task, bundle, args.max_problems, args.batch_tokens).answers
        seconds = between - started, time.perf_counter() - between
        totals = [total + each for total, each in zip(totals, seconds, strict=True)]
        equal = sum(a == b for a, b in zip(expected, answers, strict=True))
        same, count = same + equal, count + len(answers)
        print(table_line(task.label, *seconds, equal, len(answers)), flush=True)
    print(table_line("all", *totals, same, count))


def table_line(name: str, reference: float, batched: float, same: int, count: int) -> str:
    """Seconds of both sides, their ratio, and how many answers agree."""
    agree = f"{same:,} of {count:,}"
    return f"{name:<34}{reference:>13.1f} s{batched:>8.1f} s{reference / batched:>7.2f}x{agree:>18}"


def build_fresh(args: BenchmarkArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model with random weights, and a tokenizer trained on the primer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = train_tokenizer((row["text"] for row in open_corpus("primer").train), args.vocab_size)
    config = NanochatGPTConfig.from_depth(
        args.depth, vocab_size=len(tokenizer), max_position_embeddings=args.max_seq_len
    )
    torch.manual_seed(0)
    model = NanochatGPTForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # new models have zero output projections
            parameter.normal_(std=0.05)
    return model.to(device).eval(), tokenizer


if __name__ == "__main__":
    exit_on_input_error("benchmarks.core", lambda: main(ARGS))
