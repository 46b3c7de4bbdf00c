"""Memory that runs out in TRL's trainers: a line with the rank and the remedy, on one process and on several."""

import ctypes
import os
import resource
from functools import partial

import pytest

from recipes.training.assistant_trainer import AssistantTrainer
from tests.recipes.processes import Running, addresses, flags
from tests.recipes.test_faults import M_MMAP_THRESHOLD

pytestmark = pytest.mark.launch


@pytest.fixture
def sft(student, sums) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {"source": student, "conversations": sums, "eval_steps": 5, "save_steps": 5}


def no_memory_in_the_second_step(rank: int) -> None:
    """In a training process: while it makes its second step, one rank gets no more memory, as from a full card."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**12)  # freed tensors go back to the system, and would be missed
    step = AssistantTrainer.training_step

    def limited(self, *args, **kwargs):
        if self.state.global_step != 1 or int(os.environ.get("RANK", "0")) != rank:
            return step(self, *args, **kwargs)
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (addresses(), before[1]))
        try:
            return step(self, *args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    AssistantTrainer.training_step = limited


def test_memory_that_runs_out_is_one_line_with_the_remedy(sft, tmp_path):
    arguments = sft | {"output_dir": tmp_path, "per_device_train_batch_size": 16}
    ends = Running(flags(arguments), before=partial(no_memory_in_the_second_step, 0), script="sft")
    (end,) = ends.wait()
    (line,) = end.stderr.splitlines()
    assert end.code == 2 and line.startswith("sft: out of memory: train with --per_device_train_batch_size 8 "), line


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_memory_that_runs_out_on_one_process_ends_all_and_names_it(sft, tmp_path, count):
    before = partial(no_memory_in_the_second_step, 1)
    arguments = sft | {"output_dir": tmp_path, "per_device_train_batch_size": 4}
    ends = Running(flags(arguments), count, before=before, script="sft").wait()
    assert [end.code for end in ends] == count * [2], ends[1].stderr
    (line,) = ends[1].stderr.splitlines()
    assert line.startswith("sft: out of memory on rank 1 (cpu") and "--per_device_train_batch_size 2 " in line
    assert all("has lost another process" in end.stderr for end in (ends[0], *ends[2:]))
