"""Each benchmark runs to its end on a tiny setting and prints its figures; what they are is not for a test to say."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import reinforcement, stages
from recipes.data.corpora import open_corpus
from recipes.utils.arguments import parse_arguments
from tests.recipes.inference.talker import always, load_tokenizer
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_conversation


def run(*words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_data_prints_a_speed_for_tokenizing_packing_and_both():
    output = run("benchmarks.data", "--vocab_size", "600", "--documents", "300", "--rounds", "1")
    assert all(
        re.search(rf"^{name} +[\d,]+ tokens/s", output, re.M) for name in ("tokenizing", "packing", "whole loader")
    )


@pytest.mark.slow
def test_pretrain_prints_the_ratio_to_the_plain_loop_and_the_share_of_the_peak():
    setting = (
        "--vocab_size 600 --depth 1 --max_seq_len 32 --device_batch_size 2 --total_batch_size 128 --compile false"
    )
    output = run("benchmarks.pretrain", *setting.split(), "--steps", "2", "--warmup", "1", "--rounds", "1")
    assert re.search(r"median of 1 turns: \d+\.\d\d x the plain loop, \d+% of the peak, [\d,]+ tokens/s", output)


@pytest.mark.slow
def test_gpu_measures_training_and_generation_wherever_it_runs():
    setting = "--depths 1 --max_seq_len 32 --rows 2 --vocab_size 128 --attention sdpa --steps 1"
    output = run("benchmarks.gpu", *setting.split())
    assert re.search(r"^d1 sdpa: [\d,]+ tokens/s, MFU \d", output, re.M)
    assert (
        len(re.findall(r"^d1 generate, batch (?:1|16), (?:dynamic|static) cache: [\d,]+ tokens/s", output, re.M)) == 4
    )


@pytest.mark.slow
def test_the_compiled_step_is_one_graph_without_masks_and_computes_no_angles():
    setting = "--depths 2 --max_seq_len 32 --vocab_size 128"
    output = run("benchmarks.graphs", *setting.split())
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert [each["generation"] for each in found] == [2025, 2026]
    for each in found:
        assert (each["graphs"], each["attentions"], each["masked"], each["angle_kernels"]) == (1, 2, 0, 0)
        assert each["kernels"] > 10 and each["megabytes"] > 0


@pytest.mark.slow
def test_rollouts_prints_the_parts_of_a_step_beside_trls(tmp_path):
    documents = [row["text"] for row in open_corpus("primer").validation.take(300)]
    train_tokenizer(documents, vocab_size=600).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, context=256)
    model = always("<|assistant_end|>", tokenizer, context=256)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    setting = "--questions 1 --replies 2 --max_completion_length 4 --steps 1"
    output = run("benchmarks.rollouts", "--source", str(tmp_path), *setting.split())
    assert "1 problems x 2 replies, the model's part 1 tokens on average" in output
    for part in ("generation and rewards", "loss", "backward", "optimizer", "whole step"):
        assert re.search(rf"^{part}( +\d+\.\d\d \( *\d+\.\d\d\)){{2}} +\d+\.\d\d x", output, re.M), output


@pytest.mark.parametrize(("module", "argv"), [(stages, []), (reinforcement, ["--source", "runs/cpu/sft"])])
def test_a_benchmark_of_whole_recipes_takes_its_flags(module, argv):
    args = parse_arguments(module.BenchmarkArguments, argv=argv)
    assert args == module.BenchmarkArguments(**({"source": argv[1]} if argv else {}))


@pytest.mark.slow
def test_rows_for_the_comparison_of_stages_are_nearly_full_and_fit(tmp_path):
    documents = [row["text"] for row in open_corpus("primer").validation.take(300)]
    tokenizer = train_tokenizer(documents, vocab_size=600)
    args = stages.BenchmarkArguments(steps=2, warmup=1, accumulation=1, device_batch_size=4)
    stages.write_full_rows(tmp_path / "rows.jsonl", tokenizer, args)
    lengths = [
        len(encode_conversation(tokenizer, json.loads(line))[0])
        for line in (tmp_path / "rows.jsonl").read_text().splitlines()
    ]
    assert len(lengths) == 24 and max(lengths) <= args.max_seq_len and sum(lengths) > 0.7 * 24 * args.max_seq_len
