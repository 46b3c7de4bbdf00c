"""The CORE benchmark compares every decision of both sides; how fast they are is not for a test."""

import re

import pytest

from benchmarks.core import BenchmarkArguments
from benchmarks.core import main as run_benchmark
from tests.evals.core_bundle import TASKS, write_bundle


@pytest.mark.slow
def test_both_sides_decide_alike_on_every_example(tmp_path, capsys):
    bundle = str(write_bundle(tmp_path, 20))
    run_benchmark(BenchmarkArguments(bundle, depth=1, vocab_size=300, max_seq_len=512, max_problems=12))
    said = capsys.readouterr().out
    for task in TASKS:
        assert re.search(rf"^{task['label']} .*x +12 of 12$", said, re.MULTILINE)
    assert re.search(r"^all .* [\d.]+x +84 of 84$", said, re.MULTILINE)
