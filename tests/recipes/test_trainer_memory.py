"""Memory that runs out in TRL's trainers: a line with the rank and the remedy, on one process and on several."""

import os
from functools import partial

import pytest
import torch

from recipes.training.assistant_trainer import AssistantTrainer
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import Running, flags, no_more_memory, run

pytestmark = pytest.mark.launch


@pytest.fixture
def sft(student, sums) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {"source": student, "conversations": sums, "eval_steps": 5, "save_steps": 5}


def no_memory_in_the_second_step(rank: int) -> None:
    """In a training process: as its second step begins, one rank asks for memory that the system does not have.

    The step itself may go without: what malloc kept of freed tensors differs from machine to machine.
    """
    step = AssistantTrainer.training_step

    def asking(self, *args, **kwargs):
        if self.state.global_step == 1 and int(os.environ.get("RANK", "0")) == rank:
            with no_more_memory():
                torch.empty(2**30)
        return step(self, *args, **kwargs)

    AssistantTrainer.training_step = asking


def test_memory_that_runs_out_is_one_line_with_a_remedy_by_which_the_run_goes_on(sft, tmp_path):
    arguments = sft | {
        "output_dir": tmp_path,
        "per_device_train_batch_size": 16,
        "save_steps": 1,
        "eval_steps": 1,
        "logging_steps": 1,
    }
    running = Running(flags(arguments), before=partial(no_memory_in_the_second_step, 0), script="sft")
    (end,) = running.wait()
    (line,) = end.stderr.splitlines()
    assert end.code == 2 and line.startswith("sft: out of memory: train with --gradient_checkpointing true, or "), line
    assert "--per_device_train_batch_size 8 --gradient_accumulation_steps 2 from the start" in line
    end = run(flags(arguments | {"gradient_checkpointing": "true"}), script="sft")
    assert end.code == 0, end.stderr
    trained = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in record]
    assert trained == list(range(1, len(trained) + 1)), "the first step was not made again"


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_memory_that_runs_out_on_one_process_ends_all_and_names_it(sft, tmp_path, count):
    before = partial(no_memory_in_the_second_step, 1)
    arguments = sft | {"output_dir": tmp_path, "per_device_train_batch_size": 4}
    ends = Running(flags(arguments), count, before=before, script="sft").wait()
    assert [end.code for end in ends] == count * [2], ends[1].stderr
    (line,) = ends[1].stderr.splitlines()
    assert line.startswith("sft: out of memory on rank 1 (cpu") and "--gradient_checkpointing true" in line
    assert all("has lost another process" in end.stderr for end in (ends[0], *ends[2:]))
