"""Speed of generation against transformers' NanoChatForCausalLM.generate: `python -m benchmarks.generate`.

Both models have the same random weights in fp32, and generate the same number of tokens greedily after the same
left-padded prompts; ours by `generate`, and by our loop with tool calls. A third model, of generation 2026 and the
same depth, is compared with ours of 2025. The sides take turns, so that a machine whose speed drifts favours neither;
results are medians. The head's rows of special tokens are zero, so that no reply ends early and no tool is called.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.generate`; the defaults are the cpu preset's model."""

    depth: int = flag(4, "as of recipes/pretrain.py", least=1, most=1000)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    max_seq_len: int = flag(256, "context of the models, in tokens", least=1, most=2**24)
    batch_sizes: list[int] = flag([1, 16], "prompts at a time", least=1)
    new_tokens: int = flag(96, "tokens written after each prompt", least=1)
    repeats: int = flag(5, "turns of each side", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.generate", BenchmarkArguments)

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.twins import build_ours, build_twins
from recipes.data.corpora import open_corpus
from recipes.inference.generate import Sampling, generate_replies
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import Message, encode_prompt

THEIRS, OURS, TOOLS = "NanoChatForCausalLM.generate", "ours, generate", "ours, generate with tools"
NEW = "ours of 2026, generate"
PROMPT_TOKENS = (24, 48)  # least and most of a prompt


def main(args: BenchmarkArguments) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = train_tokenizer((row["text"] for row in open_corpus("primer").train), args.vocab_size)
    ours, theirs = build_twins(tokenizer, args.depth, args.max_seq_len)
    ours, theirs = ours.to(device), theirs.to(device)
    new = build_ours(tokenizer, args.depth, args.max_seq_len, generation=2026).to(device)
    print(
        f"depth {args.depth}, vocabulary {args.vocab_size:,}, prompts of {PROMPT_TOKENS[0]} to {PROMPT_TOKENS[1]} "
        f"tokens, {args.new_tokens} new ones, {device.type}, {torch.get_num_threads()} threads"
    )
    for batch_size in args.batch_sizes:
        speeds = measure(args, tokenizer, ours, theirs, new, batch_size)
        for name, speed in speeds.items():
            ratio = speed / speeds[THEIRS]
            print(f"batch {batch_size}, {name}: {speed:,.0f} tokens/s = {ratio:.2f} x plain", flush=True)
        print(f"batch {batch_size}, 2026 to 2025: {speeds[NEW] / speeds[OURS]:.2f} x", flush=True)


def measure(
    args: BenchmarkArguments,
    tokenizer: PreTrainedTokenizerFast,
    ours: PreTrainedModel,
    theirs: PreTrainedModel,
    new: PreTrainedModel,
    batch_size: int,
) -> dict[str, float]:
    """Measure the median tokens/s of each side."""
    conversations = questions(tokenizer, batch_size)
    inputs = left_padded([encode_prompt(tokenizer, messages) for messages in conversations], ours.device)
    options = {"max_new_tokens": args.new_tokens, "do_sample": False}
    sampling = Sampling(max_new_tokens=args.new_tokens)
    sides: dict[str, Callable[[], object]] = {
        THEIRS: lambda: theirs.generate(**inputs, **options),
        OURS: lambda: ours.generate(**inputs, **options),
        NEW: lambda: new.generate(**inputs, **options),
        TOOLS: lambda: generate_replies(ours, tokenizer, conversations, sampling, batch_size=batch_size),
    }
    seconds = {name: [] for name in sides}
    for turn in range(1 + args.repeats):  # the first turn warms up
        for name, write in sides.items():
            started = time.perf_counter()
            write()
            if ours.device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: batch_size * args.new_tokens / statistics.median(each) for name, each in seconds.items()}


def questions(tokenizer: PreTrainedTokenizerFast, number: int) -> list[list[Message]]:
    """Conversations of one question each, with prompt lengths spread over PROMPT_TOKENS."""
    least, most = PROMPT_TOKENS
    text = " and ".join(f"What is {n} + {n}" for n in range(100))
    ids = tokenizer.encode(text, add_special_tokens=False)
    frame = len(encode_prompt(tokenizer, [{"role": "user", "content": "?"}])) - 1
    lengths = [most - frame - index * (most - least) // max(1, number - 1) for index in range(number)]
    return [[{"role": "user", "content": tokenizer.decode(ids[:length])}] for length in lengths]


def left_padded(prompts: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Ids and attention mask (B, T) of prompts, padded with 0."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return {"input_ids": ids, "attention_mask": mask}


if __name__ == "__main__":
    exit_on_input_error("benchmarks.generate", lambda: main(ARGS))
