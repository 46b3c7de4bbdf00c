"""A run resumes on another number of processes: fewer, more, and the first number again."""

import json
import math
import shutil
import signal
from pathlib import Path

import pytest

from recipes.training.checkpoint_files import step_of, whole_checkpoints
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import Running, flags, run
from tests.recipes.test_exactness import assert_same_run

pytestmark = [pytest.mark.launch, pytest.mark.slow]


def interrupt(output_dir: Path, step: int) -> None:
    """Make a finished run one whose newest checkpoint is that of `step`."""
    (output_dir / "config.json").unlink()
    for checkpoint in whole_checkpoints(output_dir):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)


def evaluations(output_dir: Path) -> dict[int, float]:
    records = read_metrics(output_dir / "metrics.jsonl")
    return {record["step"]: record["val/bpb"] for record in records if "val/bpb" in record}


def steps(output_dir: Path) -> list[int]:
    records = [record for record in read_metrics(output_dir / "metrics.jsonl") if "train/loss" in record]
    assert all(math.isfinite(record["train/loss"]) for record in records)
    return [record["step"] for record in records]


def goes_on(arguments: dict, processes: int = 1, stage: str = "pretrain") -> str:
    """Train to the end, and return the statement of what changes."""
    end = run(flags(arguments), processes, script=stage)
    assert end.code == 0, end.stderr
    (line,) = [line for line in end.stdout.splitlines() if line.startswith("readers ")]
    return line


@pytest.fixture
def arguments(tiny, tmp_path) -> dict:
    more = {"eval_every": 2, "keep_checkpoints": 0, "mixed_precision": "no", "output_dir": tmp_path / "run"}
    return {name: value for name, value in (tiny | more).items() if name != "total_batch_size"}


def test_two_processes_then_one_then_two_go_on_where_the_others_were(arguments):
    output_dir = arguments["output_dir"]
    assert run(flags(arguments), 2).code == 0
    before, batch = evaluations(output_dir), json.loads((output_dir / "arguments.json").read_text())
    interrupt(output_dir, 2)
    line = goes_on(arguments, 1)
    assert "step_000002 was written by 2 processes x 0 loader workers, and 1 x 0 go on." in line
    assert "each document is still read once an epoch" in line and "random numbers" not in line
    after = evaluations(output_dir)
    assert after[2] == pytest.approx(before[2], abs=1e-6), "the weights are those of the checkpoint"
    assert after[4] == pytest.approx(before[4], rel=0.05) and after[6] != before[6]
    interrupt(output_dir, 4)
    line = goes_on(arguments, 2)
    assert "step_000004 was written by 1 processes x 0 loader workers, and 2 x 0 go on." in line
    assert "random numbers of ranks from 1 on (seeded by seed, step and rank)" in line
    assert evaluations(output_dir)[4] == pytest.approx(after[4], abs=1e-6)
    assert steps(output_dir) == [1, 2, 3, 4, 5, 6]
    assert json.loads((output_dir / "arguments.json").read_text()) == batch


def test_killed_right_after_and_again_one_process_goes_on_as_two_the_same_way(arguments, gpt2_config):
    """With dropout: what a process that did not exist draws depends on nothing else."""
    arguments |= {"model_config": gpt2_config, "num_workers": 2}
    output_dir = arguments["output_dir"]
    assert run(flags(arguments)).code == 0
    interrupt(output_dir, 2)
    copy = shutil.copytree(output_dir, output_dir.with_name("copy"))

    attempt = Running(flags(arguments), 2)
    attempt.wait_until(lambda: steps(output_dir)[-1] == 3)
    assert attempt.kill() == [-signal.SIGKILL] * 2
    assert run(flags(arguments), 2).code == 0  # from step 2 once more, or from a checkpoint of its own
    assert "written by 1 processes x 2 loader workers, and 2 x 2" in goes_on(arguments | {"output_dir": copy}, 2)
    assert_same_run(output_dir, copy)


def test_loader_workers_alone_may_change_and_a_batch_that_does_not_divide_is_refused(arguments):
    output_dir = arguments["output_dir"]
    assert run(flags(arguments)).code == 0
    interrupt(output_dir, 2)
    end = run(flags(arguments), 3)
    assert end.code == 2 and "is not a multiple of" in end.stderr and "x 3 processes" in end.stderr
    line = goes_on(arguments | {"num_workers": 2})
    assert "written by 1 processes x 0 loader workers, and 1 x 2 go on" in line


def test_midtraining_makes_the_steps_of_its_one_pass(student, sums, tmp_path):
    arguments = {"source": student, "conversations": sums, "max_seq_len": 64, "total_batch_size": 512}
    arguments |= {"device_batch_size": 2, "eval_every": 2, "eval_tokens": 64, "save_every": 2, "sample_every": -1}
    arguments |= {"compile": "false", "keep_checkpoints": 0, "mixed_precision": "no", "output_dir": tmp_path / "mid"}
    output_dir = arguments["output_dir"]
    end = run(flags(arguments), 2, script="midtrain")
    assert end.code == 0, end.stderr
    whole, before = steps(output_dir), evaluations(output_dir)
    assert len(whole) >= 6
    for step, processes in ((2, 1), (4, 2)):
        interrupt(output_dir, step)
        line = goes_on(arguments, processes, "midtrain")
        assert f"step_{step:06d} was written by" in line and f"{processes} x 0 go on" in line
        assert steps(output_dir) == whole
        assert evaluations(output_dir)[2] == pytest.approx(before[2], abs=1e-6)
