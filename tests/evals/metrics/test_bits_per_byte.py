"""The `evaluate` module of bits per byte: loads offline from its directory and follows the formula."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
METRIC = str(ROOT / "evals" / "metrics" / "bits_per_byte")


@pytest.fixture(scope="module")
def bits_per_byte(tmp_path_factory):
    return evaluate.load(METRIC, cache_dir=str(tmp_path_factory.mktemp("evaluate")), keep_in_memory=True)


@pytest.mark.launch
def test_loads_offline_by_its_path_in_a_fresh_process_without_the_project(tmp_path):
    shutil.copytree(METRIC, tmp_path / "here" / "bits_per_byte")
    code = (
        "import evaluate; metric = evaluate.load('./bits_per_byte');"
        "print(metric.compute(predictions=[2.0], references=[1])['bits_per_byte'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "here",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == pytest.approx(2.0 / math.log(2))


def test_a_uniform_guess_among_256_bytes_costs_8_bits(bits_per_byte):
    result = bits_per_byte.compute(predictions=[math.log(256)] * 10, references=[1] * 10)
    assert result == {"bits_per_byte": pytest.approx(8.0)}


def test_tokens_without_bytes_do_not_count(bits_per_byte):
    with_specials = bits_per_byte.compute(predictions=[99.0, 1.0, 2.0, 99.0], references=[0, 3, 1, 0])
    assert with_specials == bits_per_byte.compute(predictions=[1.0, 2.0], references=[3, 1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 20)), min_size=1, max_size=50))
def test_merging_tokens_changes_nothing(bits_per_byte, tokens):
    nats, lengths = [nat for nat, _ in tokens], [length for _, length in tokens]
    separate = bits_per_byte.compute(predictions=nats, references=lengths)["bits_per_byte"]
    merged = bits_per_byte.compute(predictions=[math.fsum(nats)], references=[sum(lengths)])["bits_per_byte"]
    assert separate == pytest.approx(merged, rel=1e-12)


def test_batches_added_one_by_one_give_the_whole(bits_per_byte):
    bits_per_byte.add_batch(predictions=[1.25, 2.5], references=[1, 2])
    bits_per_byte.add_batch(predictions=[0.1], references=[4])
    assert bits_per_byte.compute()["bits_per_byte"] == pytest.approx(3.85 / 7 / math.log(2), rel=1e-12)


@pytest.mark.parametrize(("references", "named"), [([0, 0], "nothing to measure"), ([-1, 3], "references holds -1")])
def test_impossible_byte_counts_are_refused(bits_per_byte, references, named):
    with pytest.raises(ValueError, match=named):
        bits_per_byte.compute(predictions=[1.0, 1.0], references=references)
