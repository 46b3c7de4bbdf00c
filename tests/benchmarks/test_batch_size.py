"""Batch sizes are tried up to the first that does not fit, each apart, and the smallest fast one is recommended."""

import os
import re
import subprocess
import sys

import pytest
import torch
from transformers import GPT2Config

from benchmarks import batch_size
from benchmarks.batch_size import BenchmarkArguments, Measurement, measure_precision, recommend
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError


def program(*words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.batch_size", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)


@pytest.mark.slow
def test_each_precision_ends_with_the_first_that_does_not_fit(tmp_path):
    GPT2Config(n_layer=1, n_head=2, n_embd=32, n_positions=1024, vocab_size=20_000).save_pretrained(tmp_path)
    words = ["--model_config", str(tmp_path / "config.json"), "--precisions", "tf32,fp32", "--steps", "1"]
    end = program(*words, "--memory_limit", "1.2")  # a row's logits are 80 MB, of which there are several copies
    assert end.returncode == 0, end.stderr
    assert "tf32        skipped" in end.stdout and "at most 1.20 GB" in end.stdout
    rows = re.findall(r"^fp32 +(\d+) +([\d,]+ +\d\.\d\d GB|does not fit)$", end.stdout, re.M)
    assert rows[0][0] == "1" and rows[0][1].endswith("GB")
    assert "does not fit" in [told for _, told in rows]
    assert re.search(
        r"^recommended  fp32, batch size \d+: \d+% of the fastest in \d\.\d\d GB \(--device", end.stdout, re.M
    )


def test_a_peak_beyond_the_limit_that_nobody_looked_at_does_not_fit(monkeypatch):
    monkeypatch.setattr(batch_size, "send_measurement", _send_two_gigabytes)
    measured = [batch_size.measure_apart(BenchmarkArguments(), "fp32", 1, limit) for limit in (1e9, 3e9)]
    assert [each is not None for each in measured] == [torch.cuda.is_available(), True]


def _send_two_gigabytes(sender, args, precision, rows, limit):
    """Ends before the process is looked at."""
    sender.send(Measurement(precision, rows, 1.0, int(2e9)))


@pytest.mark.parametrize(
    ("capacity", "tried"),
    [(5, [1, 2, 4, 8, 6, 5]), (9, [1, 2, 4, 8, 16, 12, 10]), (0, [1]), (64, [1, 2, 4, 8, 16, 32])],
)
def test_doubled_and_then_halfway(capacity, tried, monkeypatch):
    seen = []

    def fits(args, precision, rows, limit):
        seen.append(rows)
        return Measurement(precision, rows, 1.0, 1) if rows <= capacity else None

    monkeypatch.setattr(batch_size, "measure_apart", fits)
    list(measure_precision(BenchmarkArguments(max_batch_size=32), "fp32", 1e9))
    assert seen == tried


def test_the_smallest_of_the_fast_ones_is_recommended():
    speeds = {("fp32", 1): 50, ("fp32", 2): 60, ("bf16", 1): 90, ("bf16", 2): 96, ("bf16", 4): 100}
    told = recommend([Measurement(*name, speed, 10**9) for name, speed in speeds.items()])
    assert "fastest      bf16, batch size 4" in told and "recommended  bf16, batch size 2: 96% of the" in told
    assert recommend([]).startswith("nothing fits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precisions", "fp32,bf61"], "precisions: no 'bf61'; did you mean bf16?"),
        (["--memory_limit", "0"], "memory_limit must be above 0"),
        (["--max_batch_size", "0"], "max_batch_size must be at least 1"),
    ],
)
def test_a_wrong_flag_is_one_line(words, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        parse_arguments(BenchmarkArguments, argv=words)
