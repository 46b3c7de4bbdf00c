"""What several processes do when one of them fails: go on together, or end soon with one line that says why."""

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import psutil
import pytest

from recipes.training import loop, machines, out_of_memory
from recipes.utils.run_directory import METRICS
from tests.recipes.processes import REPOSITORY, Running, flags, free_port, limit, no_more_memory, run
from tests.recipes.test_exactness import assert_same_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory"),
]
M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = {"num_iterations": 2, "save_every": 0, "mixed_precision": "no", "total_batch_size": 2 * 512 * 32}


def too_little_for_a_rehearsal(rank: int, size: int) -> None:
    """In a training process: while memory is tried out, one rank gets at most `size` bytes more than it has.

    Not while gradients are exchanged for the first time: a limit of addresses is not as even as the memory of a card.
    """
    try_out = out_of_memory._agree_on_memory

    def limited(*args):
        with no_more_memory(size) if os.environ["RANK"] == str(rank) else nullcontext():
            return try_out(*args)

    out_of_memory._agree_on_memory = limited


def no_more_memory_after_a_step(rank: int) -> None:
    """In a training process: when its first step is over, one rank gets almost no more memory."""
    # Tensors go back to the system when they are freed: kept by malloc, they would serve the next step.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)
    update = loop.TrainingLoop._update

    def updating(self, *args):
        result = update(self, *args)
        if os.environ["RANK"] == str(rank):
            limit(resource.RLIMIT_AS, 4 * 2**20)
        return result

    loop.TrainingLoop._update = updating


@pytest.mark.parametrize("processes", [2, 4])
def test_when_one_process_has_too_little_memory_all_go_on_with_fewer_rows(tiny, tmp_path, processes):
    rows = 1024 // processes
    large = tiny | LARGE | {"device_batch_size": rows}
    before = partial(too_little_for_a_rehearsal, 1, 60 * 2**20)
    ends = Running(flags(large | {"output_dir": tmp_path / "halved"}), processes, before=before).wait()
    assert [end.code for end in ends] == processes * [0], ends[1].stderr + ends[0].stderr
    said = [
        int(rows) for rows in re.findall(r"out of memory: continuing with device_batch_size (\d+)", ends[0].stdout)
    ]
    assert said and said == [rows >> times for times in range(1, 6)][: len(said)]

    small = large | {"output_dir": tmp_path / "small", "device_batch_size": said[-1]}
    assert run(flags(small), processes).code == 0
    assert_same_run(tmp_path / "halved", tmp_path / "small")


@pytest.mark.parametrize("processes", [2, 4])
def test_memory_that_runs_out_later_on_one_process_ends_it_with_its_rank_and_the_remedy(tiny, tmp_path, processes):
    rows = 1024 // processes
    large = tiny | LARGE | {"device_batch_size": rows, "output_dir": tmp_path}
    ends = Running(flags(large), processes, before=partial(no_more_memory_after_a_step, 1)).wait()
    assert ends[1].code == 2, ends[1].stderr
    (line,) = ends[1].stderr.splitlines()
    assert line.startswith("pretrain: out of memory on rank 1 (cpu") and f"--device_batch_size {rows // 2}" in line
    for rank in {*range(processes)} - {1}:
        assert ends[rank].code == 2
        (line,) = ends[rank].stderr.splitlines()
        assert line.startswith(f"pretrain: rank {rank} has lost another process")


def test_a_killed_process_is_restarted_and_the_run_resumes_as_if_undisturbed(tiny, tmp_path):
    """Four processes under the launcher that users have; one is killed between two checkpoints."""
    arguments = tiny | {"num_iterations": 8, "save_every": 2, "keep_checkpoints": 0, "total_batch_size": 4 * 32 * 4}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu.yaml"]
    launch += ["--num_processes", "4", "--max_restarts", "1", "--main_process_port", str(free_port())]
    command = [*launch, "recipes/pretrain.py", *flags(arguments | {"output_dir": tmp_path / "killed"})]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "said", "w") as said:
        running = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=said, stderr=said)
        metrics, deadline = tmp_path / "killed" / METRICS, time.monotonic() + 200
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
            assert running.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.01)
        psutil.Process(running.pid).children()[2].kill()
        assert running.wait(300) == 0, (tmp_path / "said").read_text()
    assert "resuming from" in (tmp_path / "said").read_text()

    whole = arguments | {"output_dir": tmp_path / "whole"}
    assert run(flags(whole), 4).code == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def go_to_a_directory_of_its_own(root: Path) -> None:
    """In a training process: as on a machine of its own, a relative path means another directory."""
    directory = root / f"machine_{os.environ['RANK']}"
    directory.mkdir()
    os.chdir(directory)
    machines.PATIENCE = 1


def test_machines_without_shared_storage_are_told_before_anything_is_trained(tiny, tmp_path):
    separate = {"output_dir": "run", "dataset": tiny["dataset"], "tokenizer": tiny["tokenizer"]}
    ends = Running(flags(tiny | separate), 2, before=partial(go_to_a_directory_of_its_own, tmp_path)).wait()
    assert [end.code for end in ends] == [2, 2]
    (line,) = ends[0].stderr.splitlines()
    assert line.startswith("pretrain: run is not one directory for all processes: rank 1") and "share" in line
    assert not ends[1].stderr
    assert not list(tmp_path.glob("*/run/*.jsonl"))


def small_disk_for_one(rank: int) -> None:
    """In a training process: one rank may not write files of more than 64 KB."""
    if os.environ["RANK"] == str(rank):
        limit(resource.RLIMIT_FSIZE, 2**16)


def test_a_disk_that_is_full_for_one_process_ends_all_with_one_line(tiny, tmp_path):
    argv = flags(tiny | {"output_dir": tmp_path})
    assert run(argv, 2, before=interrupted_after_a_checkpoint).code == 0
    ends = Running(argv, 2, before=partial(small_disk_for_one, 1)).wait()
    assert [end.code for end in ends] == [2, 2]
    (line,) = ends[0].stderr.splitlines()
    assert "could not write the checkpoint" in line and "step_000002 is intact" in line
    assert not ends[1].stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000002"]
    assert run(argv, 2).code == 0


def interrupted_after_a_checkpoint() -> None:
    """In a training process: as if SIGTERM came in the second step."""
    update = loop.TrainingLoop._update

    def updating(self, loss, state):
        if state.step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, loss, state)

    loop.TrainingLoop._update = updating
