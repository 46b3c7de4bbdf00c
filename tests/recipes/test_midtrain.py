"""Midtraining as its users meet it: what it takes over from the base run, what it trains on, and how it goes on."""

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from recipes.data.conversations import open_conversations
from recipes.data.packing import PackedRows
from recipes.data.tokens import token_stream, tokenize_conversations
from recipes.training.arguments import MidtrainArguments
from recipes.training.checkpoints import whole_checkpoints
from recipes.utils.arguments import parse_arguments
from recipes.utils.run_directory import read_metrics
from tests.recipes import processes
from tests.recipes.processes import REPOSITORY, Running, flags
from tests.recipes.test_exactness import assert_same_run

pytestmark = pytest.mark.launch

PRESETS = sorted((REPOSITORY / "recipes" / "configs" / "mid").glob("*.yaml"))
run = partial(processes.run, script="midtrain")


def sum_asked(a: int, b: int) -> list[dict]:
    """A conversation in which the calculator is called."""
    call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": f"{a}+{b}"}}}
    return [
        {"role": "user", "content": f"What is {a} plus {b}?"},
        {"role": "assistant", "content": "It is ", "tool_calls": [call]},
        {"role": "tool", "name": "calculator", "content": str(a + b)},
        {"role": "assistant", "content": f"{a + b}."},
    ]


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory) -> Path:
    """A finished pretraining run, its checkpoints with it."""
    output_dir = tmp_path_factory.mktemp("base")
    batch = {"max_seq_len": 64, "device_batch_size": 8, "total_batch_size": 2048}
    arguments = tiny | batch | {"num_iterations": 4, "matrix_lr": 0.015, "eval_every": -1}
    end = processes.run(flags(arguments | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    return output_dir


@pytest.fixture(scope="module")
def conversations(tmp_path_factory) -> Path:
    """A file of the user's: some ten steps of them, and a few held out."""
    path = tmp_path_factory.mktemp("conversations") / "sums.jsonl"
    path.write_text("".join(json.dumps({"messages": sum_asked(a, b)}) + "\n" for a in range(35) for b in range(35)))
    return path


@pytest.fixture(scope="module")
def mid(base, conversations) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {
        "source": base,
        "conversations": conversations,
        "eval_every": 4,
        "eval_tokens": 64,
        "save_every": 3,
        "sample_every": -1,
        "compile": "false",
    }


@pytest.fixture(scope="module")
def finished(mid, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run that nobody disturbed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(mid | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    return output_dir, end


def complaint(arguments: dict, processes: int = 1) -> str:
    """The one line that the command ends with."""
    end = run(flags(arguments), processes)
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("midtrain: ")
    return line


def training_records(output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if "train/loss" in record]


# What it takes over


def test_what_is_not_given_is_the_base_runs(finished, base):
    output_dir, _ = finished
    mine, theirs = (json.loads((path / "arguments.json").read_text()) for path in (output_dir, base))
    taken = ("max_seq_len", "total_batch_size", "optimizer", "matrix_lr", "embedding_lr", "unembedding_lr")
    assert {name: mine[name] for name in taken} == {name: theirs[name] for name in taken}
    assert (mine["max_seq_len"], mine["total_batch_size"], mine["matrix_lr"]) == (64, 2048, 0.015)


def test_the_optimizer_goes_on_from_the_base_runs_newest_state(finished, base):
    _, end = finished
    assert f"muon, warm-started from {base / 'checkpoints' / 'step_000004' / 'optimizer.bin'}" in end.stdout


def test_what_is_given_counts_and_another_optimizer_starts_afresh(mid, base, tmp_path):
    given = {"optimizer": "adamw", "total_batch_size": 512, "matrix_lr": 0.001, "num_iterations": 1}
    end = run(flags(mid | given | {"output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert f"adamw, starting without state: {base} was trained by muon" in end.stdout
    assert json.loads((tmp_path / "arguments.json").read_text()).items() >= given.items()


def test_a_bare_model_of_another_hand_is_midtrained_once_the_batch_is_given(mid, base, tmp_path):
    source = tmp_path / "bare"
    shutil.copytree(
        base, source, ignore=shutil.ignore_patterns("checkpoints", "arguments.json", "chat_template.jinja")
    )
    assert not AutoTokenizer.from_pretrained(source).chat_template
    bare = mid | {"source": source, "num_iterations": 2, "output_dir": tmp_path / "mid"}
    assert f"{source} does not say what it was trained with: give --total_batch_size" in complaint(bare)

    end = run(flags(bare | {"total_batch_size": 512}))
    assert end.code == 0, end.stderr
    assert f"muon, starting without state: {source} holds no checkpoint with its state" in end.stdout
    assert "= 8 rows x 64 tokens x 1 processes x 1 accumulated" in end.stdout
    assert AutoTokenizer.from_pretrained(tmp_path / "mid").chat_template


# What it trains on, and what it leaves


def test_one_pass_makes_every_step_that_the_packed_conversations_fill(finished, base, conversations):
    output_dir, _ = finished
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = tokenize_conversations(open_conversations(str(conversations)), tokenizer, max_tokens=64)
    rows = sum(1 for _ in PackedRows(token_stream(tokens, 1), tokenizer, 65, epochs=1))
    records = training_records(output_dir)
    assert len(records) == rows // (2048 // 64) > 5
    assert {record["epoch"] for record in records} == {0}


def test_more_steps_than_one_pass_go_on_into_the_next(mid, finished, tmp_path):
    steps = len(training_records(finished[0])) + 1
    end = run(flags(mid | {"output_dir": tmp_path, "num_iterations": steps, "eval_every": -1, "save_every": 0}))
    assert end.code == 0, end.stderr
    epochs = [record["epoch"] for record in training_records(tmp_path)]
    assert len(epochs) == steps
    assert epochs[0] == 0 < epochs[-1]


def test_it_learns_the_chat_format(finished):
    output_dir, _ = finished
    records = read_metrics(output_dir / "metrics.jsonl")
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    bits = [record["val/bpb"] for record in records if "val/bpb" in record]
    assert losses[-1] < losses[0] / 2
    assert len(bits) >= 2 and bits[-1] < bits[0]


def test_the_finished_model_stops_where_its_turn_or_a_call_ends(finished):
    output_dir, _ = finished
    tokenizer = AutoTokenizer.from_pretrained(output_dir)
    stops = tokenizer.convert_tokens_to_ids(["<|assistant_end|>", "<|python_end|>"])
    assert GenerationConfig.from_pretrained(output_dir).eos_token_id == stops
    assert (output_dir / "loss.png").exists()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_needs_only_a_source_and_conversations(preset):
    args = parse_arguments(MidtrainArguments, argv=["--config", str(preset), "--source", "a", "--conversations", "b"])
    assert args.matrix_lr is None, "the base run's count"


# Going on


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_stopped_and_run_again_it_equals_the_undisturbed_run(mid, finished, tmp_path, processes):
    whole = finished[0]
    if processes > 1:
        whole = tmp_path / "whole"
        assert run(flags(mid | {"output_dir": whole}), processes).code == 0
    argv = flags(mid | {"output_dir": tmp_path / "run", "num_workers": 2})  # these tokenize the same

    attempt = Running(argv, processes, script="midtrain")
    attempt.wait_until(lambda: len(training_records(tmp_path / "run")) >= 4)
    assert attempt.kill() == [-signal.SIGKILL] * processes
    attempt = Running(argv, processes, script="midtrain")
    attempt.wait_until(lambda: len(training_records(tmp_path / "run")) >= 6)
    attempt.signal(signal.SIGTERM, rank=processes - 1)
    ends = attempt.wait()
    assert [end.code for end in ends] == [0] * processes, ends[0].stderr
    assert f"{whole_checkpoints(tmp_path / 'run')[-1]} is saved" in ends[0].stdout
    assert "warm-started" not in ends[0].stdout, "the checkpoint's own state counts"

    assert run(argv, processes).code == 0
    assert_same_run(tmp_path / "run", whole)


# Bad input


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"source": None}, "no source: give --source"),
        ({"conversations": None}, "no conversations: give --conversations"),
        ({"source": "./nowhere"}, "model ./nowhere: no such directory"),
        ({"conversations": "nonsense"}, "no conversations called 'nonsense'"),
        ({"total_batch_size": 1000}, "total_batch_size 1000 is not a multiple of 64"),
        ({"total_batch_size": 2**20}, "are too few for one step of 1,048,576 tokens"),
        ({"max_seq_len": 128}, "max_seq_len 128 is beyond the model's context of 64 tokens"),
        ({"init_lr_frac": 0}, "init_lr_frac must be above 0 and at most 1,000, not 0.0"),
    ],
)
def test_what_cannot_be_is_one_clear_line(mid, tmp_path, wrong, expected):
    arguments = mid | wrong | {"output_dir": tmp_path}
    assert expected in complaint({name: value for name, value in arguments.items() if value is not None})


def test_held_out_conversations_that_do_not_fill_a_row_are_measured_all_the_same(mid, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(sum_asked(a, 1)) + "\n" for a in range(60)))
    few = mid | {"conversations": path, "total_batch_size": 512, "output_dir": tmp_path / "mid"}
    assert run(flags(few)).code == 0
    assert "val/bpb" in read_metrics(tmp_path / "mid/metrics.jsonl")[-1]
