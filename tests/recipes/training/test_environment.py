"""A run joins its trackers and its precision, and is compiled where that pays."""

import pytest
import torch

from recipes.training.environment import (
    compiler_warning,
    compute_dtype,
    has_compiler,
    should_compile,
    start_accelerator,
)
from recipes.utils.errors import InputError
from tests.recipes.training.test_plan import plan_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHORT, LONG = ({"depth": 4, "num_iterations": steps} for steps in (1, 100_000))


def start(directory, mixed_precision="no", **options):
    return start_accelerator(str(directory / "a" / "run"), mixed_precision, "false", plan_of(**SHORT), **options)


# Precision and compilation


def test_matrix_products_run_in_the_precision_chosen():
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    assert {precision: compute_dtype(precision) for precision in dtypes} == dtypes


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler()


@pytest.mark.skipif(not has_compiler(), reason="no compiler on this machine")
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_compilation_is_what_was_asked_for_or_for_runs_that_repay_it(device):
    short, long = plan_of(**SHORT), plan_of(**LONG)
    for told, expected in (("true", True), ("false", False)):
        assert should_compile(told, short, device) is expected
    assert not should_compile("auto", short, device)
    assert should_compile("auto", long, device)
    assert compiler_warning("auto", long, device) is None


@pytest.mark.parametrize(
    ("device", "length", "told", "warned"),
    [
        (CUDA, LONG, "auto", True),
        (CUDA, SHORT, "auto", False),
        (CUDA, LONG, "false", False),
        (CPU, LONG, "auto", False),
    ],
)
def test_without_a_compiler_nothing_is_compiled_and_a_gpu_at_half_its_speed_is_told(
    no_compiler, device, length, told, warned
):
    plan = plan_of(**length)
    assert not should_compile(told, plan, device)
    warning = compiler_warning(told, plan, device)
    assert (warning is not None and "g++" in warning and "twice the time" in warning) == warned


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_compilation_that_was_asked_for_and_cannot_be_is_refused(no_compiler, device):
    with pytest.raises(InputError, match=r"--compile true: no C\+\+ compiler .* Install them, or leave --compile out"):
        should_compile("true", plan_of(**SHORT), device)


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_the_accelerator_runs_in_the_precision_chosen(tmp_path, precision, fresh_accelerate):
    accelerator = start(tmp_path, mixed_precision=precision)
    layer = accelerator.prepare(torch.nn.Linear(4, 4))
    with accelerator.autocast():
        product = torch.nn.functional.linear(torch.ones(1, 4), layer.weight)
    assert product.dtype == compute_dtype(precision)


def test_tensorboard_gets_the_arguments_and_the_metrics(tmp_path, fresh_accelerate):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accelerator = start(tmp_path, log_with="tensorboard", config={"depth": 2})
    accelerator.log({"train/loss": 2.5}, step=3)
    accelerator.end_training()
    found = []
    for path in tmp_path.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            found += [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(3, 2.5)]
