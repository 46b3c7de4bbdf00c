"""A run joins its directory, its trackers and its precision, or says in one line why it cannot."""

import json

import pytest
import torch
from accelerate import PartialState

from recipes.errors import InputError
from recipes.training.arguments import PretrainArguments
from recipes.training.run import (
    claim_output_dir,
    compute_dtype,
    has_compiler,
    start_accelerator,
    worth_compiling,
)
from tests.recipes.training.test_plan import plan_of

CPU = torch.device("cpu")


@pytest.fixture
def state(fresh_accelerate):
    return PartialState(cpu=True)


def arguments(directory, **changes):
    return PretrainArguments(**{"depth": 2, "output_dir": str(directory / "a" / "run"), **changes})


def claim(directory, state, total_batch_size=64, **changes):
    """As by a run whose plan came to `total_batch_size`, given or not."""
    plan = plan_of(max_seq_len=16, device_batch_size=1, total_batch_size=total_batch_size, num_iterations=2)
    return claim_output_dir(arguments(directory, **changes), plan, state)


def test_a_directory_is_claimed_once_and_again_by_the_same_arguments(tmp_path, state):
    first = claim(tmp_path, state)
    assert first.is_dir() and [path.name for path in first.iterdir()] == ["arguments.json"]
    assert json.loads((first / "arguments.json").read_text())["depth"] == 2
    assert claim(tmp_path, state) == first


def test_all_that_differs_is_named(tmp_path, state):
    directory = claim(tmp_path, state)
    (directory / "metrics.jsonl").write_text('{"step": 1}\n')
    before = (directory / "arguments.json").read_text()
    with pytest.raises(InputError) as error:
        claim(tmp_path, state, depth=3, seed=7, text_column="body")
    message = str(error.value)
    assert "\n" not in message and str(directory) in message
    for difference in ("depth 2 there, 3 now", "seed 0 there, 7 now", "text_column None there, 'body' now"):
        assert difference in message
    assert message.count(" there, ") == 3
    assert (directory / "arguments.json").read_text() == before


def test_what_changes_no_weight_may_change(tmp_path, state):
    claim(tmp_path, state)
    claim(tmp_path, state, log_every=5, save_every=3, device_batch_size=1, resume="none", run="x", eval_every=9)


def test_a_batch_that_follows_from_the_machine_is_part_of_the_claim(tmp_path, state):
    (claim(tmp_path, state) / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match=r"total_batch_size 64 there, 128 now"):
        claim(tmp_path, state, total_batch_size=128)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path, state):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(InputError, match=r"^cannot write to output_dir .*a/run: "):
        claim(tmp_path, state)


# Precision and compilation


def test_matrix_products_run_in_the_precision_chosen():
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    assert {precision: compute_dtype(precision) for precision in dtypes} == dtypes


def test_compilation_is_what_was_asked_for():
    plan = plan_of(num_iterations=1)
    for told, expected in (("true", True), (True, True), ("false", False), (False, False)):
        assert worth_compiling(PretrainArguments(compile=told), plan, CPU) is expected


@pytest.mark.skipif(not has_compiler(), reason="no compiler on this machine")
def test_compilation_by_itself_is_for_runs_that_repay_it():
    auto = PretrainArguments(compile="auto")
    short, long = plan_of(depth=4, num_iterations=1), plan_of(depth=4, num_iterations=100_000)
    for device in (CPU, torch.device("cuda")):
        assert not worth_compiling(auto, short, device)
        assert worth_compiling(auto, long, device)


def test_without_a_compiler_nothing_is_compiled_by_itself(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler()
    assert not worth_compiling(PretrainArguments(compile="auto"), plan_of(depth=4, num_iterations=100_000), CPU)


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_the_accelerator_runs_in_the_precision_chosen(tmp_path, precision, fresh_accelerate):
    accelerator = start_accelerator(arguments(tmp_path, mixed_precision=precision), compile_model=False)
    layer = accelerator.prepare(torch.nn.Linear(4, 4))
    with accelerator.autocast():
        product = torch.nn.functional.linear(torch.ones(1, 4), layer.weight)
    assert product.dtype == compute_dtype(precision)


def test_tensorboard_gets_the_arguments_and_the_metrics(tmp_path, fresh_accelerate):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accelerator = start_accelerator(arguments(tmp_path, log_with="tensorboard"), compile_model=False)
    accelerator.log({"train/loss": 2.5}, step=3)
    accelerator.end_training()
    found = []
    for path in tmp_path.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            found += [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(3, 2.5)]
