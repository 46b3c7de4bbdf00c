"""Two runs never write into one directory: the second says who does, in one line."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from recipes.utils.outputs import hold
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import PATIENCE, REPOSITORY, Running, flags, run

pytestmark = pytest.mark.launch

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu.yaml"]


@pytest.fixture(scope="session")
def long(tiny) -> dict:
    """Arguments of a run with time enough to be met in its middle."""
    return tiny | {"num_iterations": 100, "save_every": 20, "eval_every": -1}


def steps(output_dir: Path) -> list[int]:
    return [record["step"] for record in read_metrics(output_dir / "metrics.jsonl")]


def taken_by(pid: int, directory: Path, name: str = "output_dir") -> str:
    """How the complaint begins."""
    return f"{name} {directory} is being written by process {pid} on {socket.gethostname()} since "


@pytest.mark.parametrize("stage", ["pretrain", "midtrain", "sft", "dpo", "grpo"])
def test_a_stage_stays_out_of_a_directory_that_is_held(tiny, student, sums, tmp_path, stage):
    later = {"source": student} | ({} if stage in ("dpo", "grpo") else {"conversations": sums})
    arguments = tiny if stage == "pretrain" else later
    with hold(tmp_path / "run"):
        end = run(flags(arguments | {"output_dir": tmp_path / "run"}), script=stage)
    assert end.code == 2
    (line,) = end.stderr.splitlines()
    assert line.startswith(f"{stage}: {taken_by(os.getpid(), tmp_path / 'run')}")
    assert line.endswith(": wait for it or end it, or choose another.")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argv", "name"),
    [
        ("tokenizer.train", ["--dataset", "primer", "--output_dir"], "output_dir"),
        ("recipes.convert", ["--source", "nowhere", "--to", "nanochat", "--output_dir"], "output_dir"),
        ("recipes.speedrun", ["--preset", "cpu", "--run_dir"], "run_dir"),
    ],
)
def test_a_program_stays_out_of_a_directory_that_is_held(tmp_path, module, argv, name):
    with hold(tmp_path / "run", replaced=name == "output_dir"):
        command = [sys.executable, "-m", module, *argv, str(tmp_path / "run")]
        end = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE)
    assert end.returncode == 2
    (line,) = end.stderr.splitlines()
    assert taken_by(os.getpid(), tmp_path / "run", name) in line


def test_the_first_of_two_runs_loses_nothing_by_the_second(long, tmp_path):
    argv = flags(long | {"output_dir": tmp_path})
    first = Running(argv)
    first.wait_until(lambda: steps(tmp_path))
    first.signal(signal.SIGSTOP)  # held up, it cannot be through before the second one looks
    second = run(argv)
    first.signal(signal.SIGCONT)
    assert second.code == 2 and taken_by(first.processes[0].pid, tmp_path) in second.stderr
    (end,) = first.wait()
    assert end.code == 0, end.stderr
    assert steps(tmp_path) == list(range(1, 101))
    assert not (tmp_path / ".lock").exists()


def test_loader_workers_that_outlive_their_run_do_not_keep_the_next_one_out(long, tmp_path):
    argv = flags(long | {"output_dir": tmp_path, "num_workers": 2})
    first = Running(argv)
    first.wait_until(lambda: len(steps(tmp_path)) > 20)
    first.signal(signal.SIGKILL)
    first.processes[0].join(PATIENCE)
    end = run(argv)  # within the 5 s in which workers look after their parent
    first.kill()
    assert end.code == 0, end.stderr
    assert steps(tmp_path) == list(range(1, 101))


@pytest.mark.slow
def test_workers_that_outlive_their_launcher_are_named_and_their_run_can_be_gone_on_with(long, tmp_path):
    output_dir = tmp_path / "run"
    argv = flags(long | {"output_dir": output_dir, "num_iterations": 10_000})
    command = [*LAUNCH, "--num_processes", "2", "--main_process_port", "0", "recipes/pretrain.py", *argv]
    options = {"cwd": REPOSITORY, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen(command, stdout=log, stderr=log, **options)
        deadline = time.monotonic() + PATIENCE
        while not steps(output_dir):
            assert launcher.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        launcher.kill()
        launcher.wait()
    pid = int(re.match(r"process (\d+) on ", (output_dir / ".lock").read_text())[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        again = subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)
        complaints = [line for line in again.stderr.splitlines() if line.startswith("pretrain: ")]
        assert again.returncode != 0 and len(complaints) == 1, again.stderr
        assert complaints[0].startswith(f"pretrain: {taken_by(pid, output_dir)}")
    finally:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
    while (output_dir / ".lock").exists():
        assert time.monotonic() < deadline + PATIENCE, "it does not end"
        time.sleep(0.1)
    last = steps(output_dir)[-1]
    assert last < 10_000
    assert steps(output_dir) == list(range(1, last + 1)), "no record is lost"
    assert (output_dir / "checkpoints" / f"step_{last:06d}").is_dir()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
