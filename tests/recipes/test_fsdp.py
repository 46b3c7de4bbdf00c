"""Whole runs under FSDP2, as by accelerate_configs/fsdp2.yaml, are those of DDP up to rounding."""

import os
import shutil

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from recipes.training import optimizers
from recipes.training.checkpoint_files import whole_checkpoints
from recipes.utils.run_directory import read_metrics
from tests.evals.core_bundle import write_bundle
from tests.recipes.processes import REPOSITORY, flags, run
from tests.recipes.test_exactness import assert_same_run, assert_whole

pytestmark = [pytest.mark.launch, pytest.mark.slow]

SHOWN = ("  The capital of France is|", "  My favorite color is|")


def under_ddp() -> None:
    """In a training process: orthogonalize in fp32 on any CPU, for bf16 would turn rounding into differences."""
    optimizers.has_bf16 = lambda device: False


def under_fsdp() -> None:
    """In a training process: besides, what `accelerate launch` sets for accelerate_configs/fsdp2.yaml."""
    under_ddp()
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


@pytest.fixture(scope="module", params=[2025, 2026])
def arguments(request, tiny, tmp_path_factory) -> dict:
    """A run that measures all that can be measured."""
    bundle = write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    core = {"core_metric_every": 3, "core_bundle": bundle, "core_metric_max_per_task": 12}
    return tiny | core | {"sample_every": 3, "generation": request.param, "depth": 2, "mixed_precision": "no"}


@pytest.fixture(scope="module")
def runs(arguments, tmp_path_factory):
    """Directory and console of two processes with whole weights, and of two with rows of them."""
    finished = {}
    for name, before in {"ddp": under_ddp, "fsdp": under_fsdp}.items():
        output_dir = tmp_path_factory.mktemp(name)
        end = run(flags(arguments | {"output_dir": output_dir}), processes=2, before=before)
        assert end.code == 0, end.stderr
        finished[name] = output_dir, end.stdout
    return finished


def values(output_dir, name):
    return [record[name] for record in read_metrics(output_dir / "metrics.jsonl") if name in record]


def test_losses_and_evaluations_are_those_of_whole_weights(runs):
    (whole, _), (rows, console) = runs["ddp"], runs["fsdp"]
    for name, count in {"train/loss": 6, "train/grad_norm": 6, "val/bpb": 2}.items():
        assert values(rows, name) == pytest.approx(values(whole, name), rel=1e-4)
        assert len(values(rows, name)) == count
    assert values(rows, "core_partial") == pytest.approx(values(whole, "core_partial"), abs=0.05)  # an answer may tip
    assert len(values(rows, "core_partial")) == 2
    assert all(console.count(prompt) == 2 for prompt in SHOWN)
    assert "weights divided among the processes" in console
    one, other = (load_file(path / "model.safetensors") for path in (whole, rows))
    assert one.keys() == other.keys()
    for name, weights in one.items():  # AdamW's first steps have the size of the rate even where a gradient is noise
        assert weights.numel() < 100 or ((weights - other[name]).abs() > 1e-3).float().mean() < 1e-3, name


def test_checkpoints_are_whole_and_load_like_any_other(runs):
    rows, _ = runs["fsdp"]
    for checkpoint in whole_checkpoints(rows):
        assert_whole(checkpoint, processes=2)
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True)
    final = load_file(rows / "model.safetensors")
    assert type(loaded).__name__ == loaded.config.architectures[0] == "NanochatGPTForCausalLM"
    assert all((weights == final[name]).all() for name, weights in loaded.state_dict().items())


@pytest.mark.parametrize("way", ["fsdp", "ddp"])
def test_a_resumed_run_is_an_uninterrupted_one_and_whole_weights_go_on_with_it(runs, arguments, tmp_path, way):
    if arguments["generation"] == 2025:
        pytest.skip("a model of 2026 has all that one of 2025 has")
    rows, _ = runs["fsdp"]
    shutil.copytree(rows, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "step_000006")
    for file in ("model.safetensors", "config.json"):
        (tmp_path / file).unlink()
    before = under_fsdp if way == "fsdp" else under_ddp
    end = run(flags(arguments | {"output_dir": tmp_path}), processes=2, before=before)
    assert end.code == 0, end.stderr
    assert "step_000004, step 4" in end.stdout
    if way == "fsdp":
        assert_same_run(tmp_path, rows)
    else:
        assert values(tmp_path, "train/loss") == pytest.approx(values(rows, "train/loss"), rel=1e-4)


def test_the_configuration_sets_what_the_loop_asks_for():
    config = yaml.safe_load((REPOSITORY / "accelerate_configs" / "fsdp2.yaml").read_text())
    assert config["distributed_type"] == "FSDP"
    assert config["fsdp_config"] == {"fsdp_version": 2}
