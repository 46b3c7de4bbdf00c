"""The generation benchmark compares like with like, and prints a ratio for every side; how high is not for a test."""

import re

import pytest
import torch

from benchmarks.generate import (
    PROMPT_TOKENS,
    THEIRS,
    BenchmarkArguments,
    left_padded,
    measure,
    questions,
)
from benchmarks.generate import main as run_benchmark
from benchmarks.twins import build_ours, build_twins
from recipes.utils.arguments import parse_arguments
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_prompt

ARGS = BenchmarkArguments(depth=1, vocab_size=280, new_tokens=12, repeats=1)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["What is 12 + 34 and what is 5 + 6? It is a sum."] * 50, ARGS.vocab_size)


def test_both_models_write_the_same_tokens_and_none_ends_early(tokenizer):
    prompts = [encode_prompt(tokenizer, messages) for messages in questions(tokenizer, 4)]
    inputs = left_padded(prompts, torch.device("cpu"))
    ours, theirs = (
        model.generate(**inputs, max_new_tokens=12, do_sample=False) for model in build_twins(tokenizer, depth=1)
    )
    assert torch.equal(ours, theirs)
    written = ours[:, inputs["input_ids"].size(1) :]
    assert written.shape == (4, 12)
    assert len(written.unique()) > 4
    assert not set(written.flatten().tolist()) & set(tokenizer.all_special_ids)


@pytest.mark.parametrize("number", [1, 2, 16])
def test_prompts_are_of_mixed_lengths_within_the_bounds(tokenizer, number):
    lengths = [len(encode_prompt(tokenizer, messages)) for messages in questions(tokenizer, number)]
    assert len(lengths) == number and len(set(lengths)) > number / 2
    assert all(PROMPT_TOKENS[0] - 2 <= length <= PROMPT_TOKENS[1] + 2 for length in lengths)


def test_every_side_has_a_speed(tokenizer):
    ours, theirs = build_twins(tokenizer, depth=1)
    speeds = measure(ARGS, tokenizer, ours, theirs, build_ours(tokenizer, 1, generation=2026), batch_size=2)
    assert next(iter(speeds)) == THEIRS and len(speeds) == 4
    assert all(speed > 0 for speed in speeds.values())


@pytest.mark.slow  # trains a tokenizer
def test_the_command_prints_a_ratio_for_each_batch_size(capsys):
    setting = "--depth 1 --vocab_size 600 --batch_sizes 1 3 --new_tokens 4 --repeats 1"
    run_benchmark(parse_arguments(BenchmarkArguments, argv=setting.split()))
    output = capsys.readouterr().out
    assert len(re.findall(r"^batch [13], .+: [\d,]+ tokens/s = \d+\.\d\d x plain$", output, re.M)) == 8
    assert len(re.findall(r"^batch [13], 2026 to 2025: \d+\.\d\d x$", output, re.M)) == 2
