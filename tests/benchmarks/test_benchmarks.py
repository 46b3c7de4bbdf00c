"""Each benchmark runs to its end on a tiny setting and prints its figures; what they are is not for a test to say."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import stages
from benchmarks.gpu.__main__ import attempt
from benchmarks.gpu.arguments import GPUArguments
from benchmarks.gpu.report import project
from benchmarks.gpu.training import BUCKETS
from modeling_nanochat import NanochatGPTConfig
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
def test_gpu_measures_all_that_a_machine_has_and_writes_it(tmp_path):
    parts = ["attention", "training", "buckets", "generation", "resume", "fp8"]
    setting = ["--max_seq_len", "32", "--steps", "1", "--generations", "2026", "--output_dir", str(tmp_path)]
    output = run("benchmarks.gpu", *setting, "--parts", *parts)
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    assert found["training d1 2026"]["tokens/s"] > 0 and 0 < found["training d1 2026"]["MFU"] < 1.5
    kernels = found["attention"]
    assert kernels["cudnn"].startswith("not here") and kernels["math TFLOP/s"] > 0
    assert kernels["windows by a mask TFLOP/s"] > 0 and kernels["windows by flash 2"].startswith("not here")
    assert len(found["generation 2026"]) == 4 and found["resume"]["loss differs by"] == 0
    assert not any(name.startswith(("buckets", "fp8")) for name in found)  # of several processes, and of GPUs
    assert found["to GPT-2's CORE"]["estimated hours"] > 0 and "1.65 (published" in output
    assert {"results.json", "results.md", "mfu.png", "speed.png", "memory.png"} == {f.name for f in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.launch
def test_gpu_on_two_processes_measures_what_takes_both_and_what_takes_one(tmp_path):
    parts = ["card", "training", "loader", "grpo", "buckets"]
    setting = ["--max_seq_len", "32", "--steps", "1", "--generations", "2026", "--output_dir", str(tmp_path)]
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "-m"]
    run(*launcher, "benchmarks.gpu", *setting, "--parts", *parts)
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    assert found["machine"]["devices"].startswith("2 x") and found["card"]["bandwidth GB/s"] > 0
    buckets = [name for name in found if name.startswith("buckets")]
    assert len(buckets) == len(BUCKETS)
    assert all(found[name]["with exchange ms"] > 0 for name in ("training d1 2026", *buckets))
    assert found["loader"]["tokens/s"] > 0 and found["grpo"]["step s"] > 0


@pytest.mark.slow
def test_gpu_says_what_time_leaves_out_and_what_fails(tmp_path):
    output = run("benchmarks.gpu", "--minutes", "1e-9", "--parts", "card", "grpo", "--output_dir", str(tmp_path))
    assert re.search(r"^card +left out: about 0 s, and 0 s are left", output, re.M)
    assert json.loads((tmp_path / "results.json").read_text())["results"]["grpo"].startswith("left out")
    assert attempt(lambda: 1 / 0) == "failed: ZeroDivisionError: division by zero"
    assert attempt(lambda: sys.exit("no room")) == "failed: SystemExit: no room"


@pytest.mark.parametrize(("depth", "devices"), [(24, 1), (24, 8), (12, 4)])
def test_gpu_projects_the_hours_to_core_from_what_was_measured(depth, devices):
    """By a d24 that trains on 8 x 729,810,624 tokens; another depth is taken to do as many FLOPs a second."""
    args = GPUArguments(depths=[depth], max_seq_len=2048, price_per_gpu_hour=2)
    flops = [
        NanochatGPTConfig.from_depth(d, 32_768, generation=2026, max_position_embeddings=2048).flops_per_token(2048)
        for d in (depth, 24)
    ]
    speed = 1e5 * devices
    results = {"machine": {"devices": f"{devices} x H100"}, f"training d{depth} 2026": {"tokens/s": speed}}
    hours = project(results, args)["estimated hours"]
    assert hours == pytest.approx(8 * 729_810_624 / (8e5 * flops[0] / flops[1]) / 3600)
    assert project({}, args).startswith("left out")


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


def test_the_benchmark_of_stages_takes_its_flags():
    assert parse_arguments(stages.BenchmarkArguments, argv=[]) == stages.BenchmarkArguments()


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
