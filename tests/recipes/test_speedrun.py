"""The whole speedrun, with a preset that takes seconds."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from recipes import speedrun
from recipes.data.messages import assistant, calculator_call, user
from recipes.data.mixtures import read_mixture
from recipes.speedrun import SpeedrunArguments
from recipes.training.arguments import PretrainArguments
from recipes.training.posttraining_arguments import ModelArguments, SFTArguments
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.run_directory import STAGES
from tests.evals.core_bundle import write_bundle


@pytest.fixture
def tiny_preset(tiny, tmp_path, monkeypatch):
    """Stands beside the real presets under the name cpu: every stage of a few steps."""
    conversations = tmp_path / "conversations.jsonl"
    messages = [[user(f"What is {n}+{n}?"), *calculator_call("", f"{n}+{n}", str(2 * n)), assistant(f"It is {2 * n}.")]
                for n in range(200)]  # fmt: skip
    conversations.write_text("".join(json.dumps(each) + "\n" for each in messages))
    base = {name: value for name, value in tiny.items() if name != "tokenizer"}
    stages = {
        "pretrain/cpu.yaml": base | {"dataset": str(tiny["dataset"]), "max_seq_len": 128, "total_batch_size": 256},
        "tokenizer/cpu.yaml": {"dataset": str(tiny["dataset"]), "vocab_size": 512, "model_max_length": 128},
        "mid/cpu.yaml": {"conversations": str(conversations), "eval_every": -1, "sample_every": -1},
        "sft/cpu.yaml": {"conversations": str(conversations), "per_device_train_batch_size": 32},
        "grpo/cpu.yaml": {
            "max_steps": 2,
            "max_problems": 20,
            "num_generations": 2,
            "per_device_train_batch_size": 4,
            "max_completion_length": 8,
            "pass_problems": 4,
            "pass_samples": 2,
        },
    }
    configs = tmp_path / "configs"
    for name, flags in stages.items():
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(yaml.safe_dump(flags))
    monkeypatch.setattr(speedrun, "CONFIGS", configs)
    monkeypatch.setitem(speedrun.TASKS, "cpu", "one_step")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.slow
def test_a_speedrun_trains_each_stage_once_and_ends_with_a_conversation(tiny_preset, tmp_path, capfd):
    bundle = write_bundle(tmp_path / "bundle", count=12)
    args = SpeedrunArguments("cpu", str(tmp_path / "run"), core_bundle=str(bundle), price_per_hour=0.1)
    speedrun.speedrun(args)
    first = capfd.readouterr().out
    speedrun.speedrun(args)
    second = capfd.readouterr().out

    stages = ["tokenizer", "tokenizer's report", "base", "samples of base", "CORE of base", "mid", "sft", "grpo"]
    for stage in [*stages, *(f"evaluation of {name}" for name in STAGES if name != "dpo"), "samples of grpo"]:
        assert f"== {stage}: done in" in first and f"== {stage}: finished already" in second
    for output in (first, second):
        assert "bits per byte after 6 steps" in output
        assert "The capital of France is" in output
        assert "of 6 prompts completed right" in output
        assert re.search(r"one_step( +\d+\.\d%){4}", output) and "completions/s" in output
        assert "  you    What is the capital of France?\n" in output
        assert f"look at it: {tmp_path}/run/report.html" in output
    report = (tmp_path / "run/report.html").read_text()
    assert "one-step problems" in report and "$0.1 an hour" in report and "partial" in report
    assert "model-index" in (tmp_path / "run/grpo/README.md").read_text()
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "run" / "base" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps), "the second speedrun is to train nothing anew"


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InputError, match="preset must be one of auto, cpu, gpu, not 'd20'"):
        parse_arguments(SpeedrunArguments, argv=["--preset", "d20"])


@pytest.mark.parametrize(("gpus", "preset", "depth"), [(0, "cpu", None), (1, "gpu", 12), (8, "gpu", 20)])
def test_preset_and_depth_follow_the_hardware(monkeypatch, gpus, preset, depth):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert speedrun.choose_preset("auto") == preset
    assert speedrun.choose_depth(preset, None) == depth
    assert speedrun.num_processes(preset) == max(1, gpus)
    assert speedrun.num_processes("cpu") == 1


@pytest.mark.parametrize(
    ("preset", "depth", "directory"),
    [("cpu", None, "runs/cpu"), ("cpu", 6, "runs/cpu-d6"), ("gpu", None, "runs/d12"), ("gpu", 24, "runs/d24")],
)
def test_each_depth_has_a_directory_of_its_own_and_reaches_the_base_model(monkeypatch, preset, depth, directory):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(preset == "gpu"))
    chosen = speedrun.choose_depth(preset, depth)
    assert speedrun.default_run_dir(preset, chosen) == Path(directory)
    commands = []
    monkeypatch.setattr(speedrun, "train_stage", lambda name, script, *rest: commands.append(script))
    monkeypatch.setattr(speedrun, "train_tokenizer", lambda *rest: None)
    monkeypatch.setattr(speedrun, "print_headline", lambda base_dir: None)
    monkeypatch.setattr(speedrun, "show_samples", lambda *rest: sys.exit())
    with pytest.raises(SystemExit):
        speedrun.run_stages(SpeedrunArguments(preset, depth=depth), preset, chosen, Path(directory))
    given = parse_arguments(PretrainArguments, argv=[str(word) for word in commands[0][1:]])
    assert given.depth == (chosen or yaml.safe_load((speedrun.CONFIGS / "pretrain/cpu.yaml").read_text())["depth"])


@pytest.mark.parametrize(
    ("preset", "stages"), [("cpu", ["base", "mid", "sft", "grpo"]), ("gpu", ["base", "sft", "grpo"])]
)
def test_on_gpus_sft_follows_the_base_model_at_once_by_the_preset_for_it(monkeypatch, tmp_path, preset, stages):
    commands = {}
    monkeypatch.setattr(speedrun, "train_stage", lambda name, script, *rest: commands.update({name: script[1:]}))
    for each in ("train_tokenizer", "print_headline", "examine", "show_samples", "print_comparison", "run_stage"):
        monkeypatch.setattr(speedrun, each, lambda *rest, **more: None)
    speedrun.run_stages(SpeedrunArguments(preset), preset, None, tmp_path)
    assert list(commands) == stages
    sft, _ = parse_arguments(SFTArguments, ModelArguments, argv=[str(word) for word in commands["sft"]])
    assert sft.source == stages[-3]
    assert preset == "cpu" or [part.source for part in read_mixture(sft.conversations)] == [
        "smoltalk",
        "mmlu",
        "gsm8k",
    ]


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_a_seed_has_a_directory_of_its_own_and_reaches_every_stage(monkeypatch, tmp_path, preset):
    assert speedrun.default_run_dir("cpu", None, 0) == Path("runs/cpu-seed0")
    assert speedrun.default_run_dir("cpu", 6, 3) == Path("runs/cpu-d6-seed3")
    assert speedrun.default_run_dir("gpu", 12, 3) == Path("runs/d12-seed3")
    scripts = []
    monkeypatch.setattr(speedrun, "train_stage", lambda name, script, *rest: scripts.append(script))
    for each in ("train_tokenizer", "print_headline", "examine", "show_samples", "print_comparison", "run_stage"):
        monkeypatch.setattr(speedrun, each, lambda *rest, **more: None)
    for seed in (3, None):
        speedrun.run_stages(SpeedrunArguments(preset, seed=seed), preset, 12, tmp_path)
    half = len(scripts) // 2
    assert half == {"cpu": 4, "gpu": 3}[preset]
    assert all(script[script.index("--seed") + 1] == "3" for script in scripts[:half])
    assert not any("--seed" in script for script in scripts[half:]), "each stage has a default of its own"


@pytest.mark.parametrize(("name", "stage"), [("depth", "base"), ("seed", "base"), ("seed", "grpo")])
def test_stages_of_one_depth_or_seed_are_not_taken_for_those_of_another(tmp_path, name, stage):
    speedrun.check_stages(tmp_path, **{name: 12})  # nothing there yet
    (tmp_path / stage).mkdir()
    (tmp_path / stage / "arguments.json").write_text(json.dumps({name: 12}))
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "arguments.json").write_text("{}")  # as of a stage that does not take it
    speedrun.check_stages(tmp_path, **{name: 12})
    speedrun.check_stages(tmp_path, **{name: None})
    told = f"{name} 0: .*{stage} was trained with {name} 12. Choose another run_dir, or give the {name} that this run"
    with pytest.raises(InputError, match=told):
        speedrun.check_stages(tmp_path, **{name: 0})


def test_a_core_bundle_that_is_missing_is_refused_before_anything_is_trained(tiny_preset, tmp_path):
    with pytest.raises(InputError, match="no CORE bundle in .*: no such directory"):
        speedrun.speedrun(SpeedrunArguments("cpu", str(tmp_path / "run"), core_bundle=str(tmp_path / "bundle")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("gpus", "processes"), [(0, 1), (1, 1), (4, 4)])
def test_each_launched_process_gets_its_share_of_the_cores(monkeypatch, capfd, gpus, processes):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert speedrun.num_processes("gpu") == processes and speedrun.num_processes("cpu") == 1
    show = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'], 'threads')"]
    monkeypatch.setattr(speedrun, "launcher", lambda preset: show)  # which passes over what it would launch
    speedrun.run_module("a module", ["evals.chat"], "gpu", writes=None)
    assert f"\n{12 // processes} threads\n" in capfd.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    speedrun.run_module("a module", ["evals.chat"], "gpu", writes=None)
    assert "\n5 threads\n" in capfd.readouterr().out
