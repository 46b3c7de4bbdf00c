"""The CORE benchmark compares every decision of both sides; how fast they are is not for a test."""

import re
import sys

from benchmarks.core import main as run_benchmark
from tests.evals.core_bundle import TASKS, write_bundle


def test_both_sides_decide_alike_on_every_example(tmp_path, monkeypatch, capsys):
    flags = ["--depth", "1", "--vocab_size", "300", "--max_seq_len", "512", "--max_problems", "12"]
    monkeypatch.setattr(sys, "argv", ["core", "--bundle", str(write_bundle(tmp_path, 20)), *flags])
    run_benchmark()
    said = capsys.readouterr().out
    for task in TASKS:
        assert re.search(rf"^{task['label']} .*x +12 of 12$", said, re.MULTILINE)
    assert re.search(r"^all .* [\d.]+x +84 of 84$", said, re.MULTILINE)
