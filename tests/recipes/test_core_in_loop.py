"""CORE while a model trains: measured when due, and never the end of a training."""

import re
from functools import partial

import pytest
import torch

from recipes.utils.run_directory import read_metrics
from tests.evals.core_bundle import write_bundle
from tests.recipes.processes import flags, run

pytestmark = pytest.mark.launch


def records(directory, key):
    return {record["step"]: record[key] for record in read_metrics(directory / "metrics.jsonl") if key in record}


def test_core_is_logged_when_due_and_changes_no_weight(tiny, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    core = {"core_metric_every": 3, "core_bundle": bundle, "core_metric_max_per_task": 12}
    end = run(flags(tiny | core | {"output_dir": tmp_path / "run"}))
    assert end.code == 0, end.stderr
    measured = records(tmp_path / "run", "core_partial")
    assert list(measured) == [3, 6], "never as core_metric: 15 of the tasks are missing"
    assert f"step 000006 | core_partial {measured[6]:.4f}" in end.stdout
    assert run(flags(tiny | {"output_dir": tmp_path / "without"})).code == 0
    assert records(tmp_path / "run", "train/loss") == records(tmp_path / "without", "train/loss")


def test_a_damaged_task_is_named_and_one_that_fails_altogether_ends_nothing(tiny, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    core = {"core_metric_every": 0, "core_bundle": bundle, "core_metric_max_per_task": 12}
    (bundle / "b/copa.jsonl").write_text("no JSON\n" * 20)
    end = run(flags(tiny | core | {"output_dir": tmp_path / "run"}))
    assert end.code == 0
    assert f"CORE without copa, which failed: {bundle}/b/copa.jsonl, line 1: not valid JSON" in end.stdout
    assert list(records(tmp_path / "run", "core_partial")) == [6]

    for path in bundle.glob("*/*.jsonl"):
        path.write_text("no JSON\n" * 20)
    end = run(flags(tiny | core | {"output_dir": tmp_path / "other"}))
    assert end.code == 0, end.stderr
    assert re.search(r"step 000006 \| CORE failed, training continues: no task of .* could be measured", end.stdout)
    assert (tmp_path / "other/model.safetensors").exists()


def exhaust_memory(bundle_tokens: int) -> None:
    """In the training process: inference beyond `bundle_tokens` tokens at once finds no memory."""
    embed = torch.nn.Embedding.forward

    def forward(self, ids):
        if not torch.is_grad_enabled() and ids.numel() > bundle_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more.")
        return embed(self, ids)

    torch.nn.Embedding.forward = forward


def test_out_of_memory_in_core_neither_ends_nor_changes_the_training(tiny, tmp_path):
    core = {"core_metric_every": 3, "core_bundle": write_bundle(tmp_path / "bundle"), "core_metric_max_per_task": 12}
    quiet = tiny | {"eval_every": -1}
    end = run(flags(quiet | core | {"output_dir": tmp_path / "run"}), before=partial(exhaust_memory, 1))
    assert end.code == 0, end.stderr
    assert end.stdout.count("CORE failed, training continues") == 2 and "out of memory" in end.stdout
    assert "going on with device_batch_size" not in end.stdout
    assert run(flags(quiet | {"output_dir": tmp_path / "without"})).code == 0
    assert records(tmp_path / "run", "train/loss") == records(tmp_path / "without", "train/loss")


def test_two_processes_measure_what_one_does(tiny, gpt2_config, tmp_path):
    """A GPT-2 that does not learn: unlike ours it begins with a head that is not zero."""
    core = {"core_metric_every": 0, "core_bundle": write_bundle(tmp_path / "bundle"), "core_metric_max_per_task": 40}
    still = (
        tiny
        | core
        | {
            "model_config": gpt2_config,
            "matrix_lr": 0,
            "embedding_lr": 0,
            "unembedding_lr": 0,
            "mixed_precision": "no",
        }
    )
    figures = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        end = run(flags(still | {"output_dir": output}), processes=processes)
        assert end.code == 0, end.stderr
        figures.append(records(output, "core_partial"))
    assert figures[0] == figures[1] != {}


def test_core_without_a_bundle_is_told_before_the_first_step(tiny, tmp_path):
    for more, expected in (
        ({"core_metric_every": 3}, "core_metric_every needs core_bundle"),
        ({"core_metric_every": 3, "core_bundle": tmp_path / "none"}, "no CORE bundle in"),
        (
            {"core_metric_every": 3, "core_bundle": write_bundle(tmp_path), "core_metric_max_per_task": 5},
            "5 examples of arc_easy are too few",
        ),
    ):
        end = run(flags(tiny | more | {"output_dir": tmp_path / "run"}))
        assert end.code == 2 and expected in end.stderr and "Traceback" not in end.stderr
        assert "step 000001" not in end.stdout
