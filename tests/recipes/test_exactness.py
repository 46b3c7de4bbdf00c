"""A run that is killed and begun again, as often as you like, is the run that nobody disturbed: bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.utils.other import load as load_safely
from safetensors.torch import load_file, save_file

from recipes.training import loop
from recipes.training.checkpoints import unwrap, whole_checkpoints
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import REPOSITORY, Running, flags, run

pytestmark = pytest.mark.launch

SETUPS = {  # training processes, and loader workers of each
    "1 process": (1, 0),
    "1 process, 2 workers": (1, 2),
    "2 processes": (2, 0),
    "2 processes, 2 workers": (2, 2),
}
DEPENDS_ON_TIME = {
    "train/dt", "train/tok_per_sec", "train/completions_per_sec", "train/mfu", "train/peak_memory",
    "total_training_time",
}  # fmt: skip


@pytest.fixture(scope="session")
def long(tiny) -> dict:
    """Arguments of a run with room for ten kills."""
    return tiny | {"num_iterations": 36, "save_every": 3, "eval_every": 4}


@pytest.fixture(scope="session")
def undisturbed(long, tmp_path_factory) -> Callable[[str], Path]:
    """Output directory of a run that nobody stopped, by setup."""
    finished: dict[str, Path] = {}

    def directory(setup: str) -> Path:
        if setup not in finished:
            processes, workers = SETUPS[setup]
            output_dir = tmp_path_factory.mktemp("undisturbed")
            end = run(flags(long | {"output_dir": output_dir, "num_workers": workers}), processes)
            assert end.code == 0, end.stderr
            finished[setup] = output_dir
        return finished[setup]

    return directory


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
def test_run_killed_ten_times_equals_the_undisturbed_one(long, undisturbed, tmp_path, setup):
    processes, workers = SETUPS[setup]
    argv = flags(long | {"output_dir": tmp_path, "num_workers": workers})
    kills = 0
    for moment in moments_to_kill(tmp_path, random.Random(setup)):
        attempt = Running(argv, processes)
        attempt.wait_until(moment)
        kills += attempt.kill() == [-signal.SIGKILL] * processes
        for checkpoint in whole_checkpoints(tmp_path):
            assert_whole(checkpoint, processes)
    end = run(argv, processes)

    assert end.code == 0, end.stderr
    assert kills >= 10
    assert_same_run(tmp_path, undisturbed(setup))
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["step_000033", "step_000036"]
    assert not [path for path in tmp_path.rglob(".*") if path.is_dir()], "what killed saves left is still there"


def moments_to_kill(output_dir: Path, rng: random.Random) -> Iterator[Callable[[], bool]]:
    """Eleven moments: at the start, in training and evaluation, in the saving of checkpoints and of the model."""
    metrics = output_dir / "metrics.jsonl"

    def new_in(directory: Path, pattern: str) -> Callable[[], bool]:
        def seen() -> set[tuple[str, int]]:
            try:
                return {(path.name, path.stat().st_ctime_ns) for path in directory.glob(pattern)}
            except FileNotFoundError:  # gone between the two looks
                return set()

        before = seen()
        return lambda: bool(seen() - before)

    def new_records() -> Callable[[], bool]:
        goal, delay = len(read_metrics(metrics)) + rng.randint(1, 3), rng.uniform(0, 0.05)
        return lambda: len(read_metrics(metrics)) >= goal and time.sleep(delay) is None

    yield lambda: (output_dir / "arguments.json").exists()
    for _ in range(4):
        yield new_records()
        yield new_in(output_dir / "checkpoints", ".step_*.partial")
    yield new_records()
    yield new_in(output_dir, ".model.*")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "number", "whom"),
    [
        ("1 process", signal.SIGTERM, "rank 0"),
        ("1 process, 2 workers", signal.SIGINT, "the group"),  # Ctrl-C
        ("1 process, 2 workers", signal.SIGTERM, "the group"),  # systemd, SLURM
        ("2 processes", signal.SIGTERM, "rank 1"),
        ("2 processes, 2 workers", signal.SIGINT, "the group"),
    ],
)
def test_signal_saves_a_checkpoint_and_exits_0_and_the_rerun_equals_the_undisturbed(
    long, undisturbed, tmp_path, setup, number, whom
):
    processes, workers = SETUPS[setup]
    argv = flags(long | {"output_dir": tmp_path, "num_workers": workers, "save_every": 0})
    attempt = Running(argv, processes)
    attempt.wait_until(lambda: len(read_metrics(tmp_path / "metrics.jsonl")) >= 5)
    if whom == "the group":
        attempt.signal_groups(number)
    else:
        attempt.signal(number, rank=int(whom[-1]))
    ends = attempt.wait()

    assert [end.code for end in ends] == [0] * processes, ends[0].stderr
    (checkpoint,) = whole_checkpoints(tmp_path)
    assert f"{checkpoint} is saved" in ends[0].stdout
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == int(checkpoint.name[5:]) < 36
    assert_whole(checkpoint, processes)

    end = run(argv, processes)
    assert f"resuming from {checkpoint}" in end.stdout
    assert_same_run(tmp_path, undisturbed(setup))


@pytest.mark.slow
def test_accelerate_launch_finishes_what_killed_processes_began(long, undisturbed, tmp_path):
    argv = flags(long | {"output_dir": tmp_path, "num_workers": 0})
    attempt = Running(argv, processes=2)
    attempt.wait_until(lambda: len(read_metrics(tmp_path / "metrics.jsonl")) >= 20)
    attempt.kill()

    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
    config = ["--config_file", "accelerate_configs/cpu.yaml", "--main_process_port", "0"]
    end = subprocess.run(
        [*launch, *config, "recipes/pretrain.py", *argv],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert end.returncode == 0, end.stderr
    assert "machine      2 x cpu" in end.stdout
    assert "resuming from" in end.stdout
    assert_same_run(tmp_path, undisturbed("2 processes"))


@pytest.mark.slow
def test_run_with_dropout_killed_between_checkpoints_equals_the_undisturbed_one(long, gpt2_config, tmp_path):
    arguments = long | {"model_config": gpt2_config, "num_iterations": 12}
    argv = flags(arguments | {"output_dir": tmp_path / "killed"})
    attempt = Running(argv)
    attempt.wait_until(lambda: len(read_metrics(tmp_path / "killed" / "metrics.jsonl")) >= 6)
    attempt.kill()
    run(argv)
    run(flags(arguments | {"output_dir": tmp_path / "whole"}))

    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_both_processes_end_with_the_same_weights(tiny, tmp_path):
    end = run(flags(tiny | {"output_dir": tmp_path}), processes=2, before=partial(keep_weights_in, tmp_path))
    assert end.code == 0, end.stderr
    first, second = (load_file(tmp_path / f"rank_{rank}.safetensors") for rank in (0, 1))

    assert_same_tensors(first, second)
    assert_same_tensors(first, load_file(tmp_path / "model.safetensors"))


def keep_weights_in(directory: Path) -> None:
    """In a training process: have it write down the weights that it holds in the end."""

    class Keeping(loop.TrainingLoop):
        def run(self, checkpoint: Path | None) -> bool:
            finished = super().run(checkpoint)
            save_file(unwrap(self.model).state_dict(), directory / f"rank_{os.environ['RANK']}.safetensors")
            return finished

    loop.TrainingLoop = Keeping


def assert_whole(checkpoint: Path, processes: int) -> None:
    """Nothing is missing or cut off, and nothing in it needs to be unpickled."""
    ranks = range(processes)
    state = json.loads((checkpoint / "training_state.json").read_text())
    assert state["step"] == int(checkpoint.name[5:])
    assert load_file(checkpoint / "model.safetensors").keys() >= {"lm_head.weight", "model.embed_tokens.weight"}
    optimizers = ["optimizer.bin", *(f"optimizer_{rank:05d}.bin" for rank in ranks[1:])]
    for name in [*optimizers, *(f"data_{rank:05d}.pt" for rank in ranks)]:
        assert torch.load(checkpoint / name, weights_only=True), name
    for rank in ranks:
        assert load_safely(checkpoint / f"random_states_{rank}.pkl", weights_only=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((checkpoint / name).read_text()), name
    assert (checkpoint / "modeling_nanochat.py").stat().st_size


def assert_same_run(one: Path, other: Path) -> None:
    """Final weights and all that was logged and depends on neither clock nor memory are equal, bit for bit."""
    assert_same_tensors(*(load_file(path / "model.safetensors") for path in (one, other)))
    assert timeless(read_metrics(one / "metrics.jsonl")) == timeless(read_metrics(other / "metrics.jsonl"))


def assert_same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def timeless(records: list[dict]) -> list[dict]:
    """The records without what depends on the clock, or on what else a process has in memory."""
    return [{key: value for key, value in record.items() if key not in DEPENDS_ON_TIME} for record in records]
