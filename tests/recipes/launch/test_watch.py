"""A watched stage of several processes saves when it is told to end, and resumes."""

import os
import signal

import pytest

from recipes.launch.stages import PRESETS, STAGES, check_flags, place_flags, run_directory, start_command
from recipes.launch.watch import run_watched
from recipes.training.checkpoint_files import whole_checkpoints
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.recipes.processes import flags


@pytest.mark.slow
@pytest.mark.launch
def test_processes_of_accelerate_launch_save_when_the_launcher_is_told_to_end(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("recipes.launch.watch.SECONDS_BETWEEN_LOOKS", 0.05)
    for name, value in {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}.items():
        monkeypatch.setenv(name, value)
    long = flags(tiny | {"num_iterations": 60, "save_every": 5, "eval_every": -1, "output_dir": tmp_path / "base"})
    command = start_command("pretrain", long, 2)
    config = command.index("accelerate_configs/ddp.yaml")
    command[config] = "accelerate_configs/cpu.yaml"
    sent = []

    def look_and_stop() -> None:
        if not sent and whole_checkpoints(tmp_path / "base"):
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    run_watched(command, look_and_stop)  # the launcher itself ends by the signal
    assert "stopped by a signal" in capfd.readouterr().out
    (*_, newest) = whole_checkpoints(tmp_path / "base")
    assert len(list(newest.glob("data_*.pt"))) == 2, "of two processes"
    assert not (tmp_path / "base" / "config.json").exists()
    assert run_watched(command, lambda: None) == 0
    assert f"resuming from {newest}" in capfd.readouterr().out
    assert (tmp_path / "base" / "config.json").exists()


def test_a_stage_gets_the_preset_and_its_places():
    run_dir = run_directory("ada/d20")
    for name in PRESETS:
        placed = place_flags(name, [], run_dir)
        check_flags(name, placed)
        assert placed[-2:] == ["--output_dir", f"runs/d20/{STAGES[name].directory}"]
    assert "runs/d20/tokenizer" in place_flags("pretrain", [], run_dir)
    assert "runs/d20/tokenizer" not in place_flags("pretrain", ["--model_name_or_path", "x"], run_dir)
    for flag in ("--model_name_or_path", "--model_config"):  # a model that is one already has its own generation
        check_flags("pretrain", place_flags("pretrain", [flag, "x"], run_dir))
    assert "gpu.yaml" not in " ".join(place_flags("sft", ["--config=mine.yaml"], run_dir))
    with pytest.raises(InputError, match="leave --run_dir out"):
        place_flags("speedrun", ["--run_dir", "x"], run_dir)


def test_one_gpu_needs_no_launcher_and_a_tokenizer_no_gpu():
    assert "accelerate.commands.launch" not in start_command("pretrain", [], 1)
    assert "accelerate.commands.launch" not in start_command("tokenizer", [], 8)
    command = start_command("sft", ["--max_steps", "2"], 8)
    assert command[command.index("--num_processes") + 1 :] == ["8", "recipes/sft.py", "--max_steps", "2"]
