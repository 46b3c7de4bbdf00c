"""What is recorded of a launch can be typed again, and betrays nobody."""

import getpass
import json
import os
import shlex
import socket
import sys
from pathlib import Path

import pytest

from evals.report.gather import gather
from recipes.utils.provenance import ROOT, command_line, describe_checkout, portable, read_launches, record_launch
from tests.recipes.processes import flags, run


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Records a launch of sft.py with the given flags and environment, and returns it."""

    def record(*words, script="recipes/sft.py", environment=None, **facts):
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *map(str, words)])
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_CPU"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        record_launch(tmp_path / "stage", **facts)
        return (read_launches(tmp_path / "stage" / "launches.json") or [None])[-1]

    return record


def test_the_command_can_be_typed_again(launch):
    words = ["--output_dir", "runs/my run/sft", "--config", ROOT / "recipes/configs/sft/cpu.yaml", "--seed", "3"]
    command = launch(*words)["command"]
    assert shlex.split(command) == [
        "python", "recipes/sft.py", "--output_dir", "runs/my run/sft", "--config", "recipes/configs/sft/cpu.yaml",
        "--seed", "3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "start"),
    [
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "RANK": "0"}, "accelerate launch --num_processes 8 recipes/"),
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, "accelerate launch --num_processes 16 --num_machines 2 rec"),
        ({"WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}, "accelerate launch --num_processes 2 --cpu recipes/sft"),
    ],
)
def test_several_processes_have_a_launcher(launch, environment, start):
    recorded = launch(environment=environment)
    assert recorded["command"].startswith(start)
    assert recorded["processes"] == int(environment["WORLD_SIZE"])


def test_only_the_main_process_records(launch):
    assert launch(environment={"RANK": "1", "WORLD_SIZE": "2"}) is None


def test_a_module_is_launched_by_its_name(launch, monkeypatch):
    launch()
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", type("Spec", (), {"name": "tokenizer.train"}))
    assert command_line().startswith("python -m tokenizer.train")


def test_secrets_names_and_paths_of_people_stay_out(launch, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "alice"))
    data = tmp_path / "home" / "alice" / "my data.jsonl"
    monkeypatch.setenv("SOME_SECRET", "do not tell")
    words = ["--hub_token", "hf_abcdefghijklmnop1234", "--push_to_hub_token=xyz", "--conversations", data,
             "--eval_tokens", "64", "--note", "hf_abcdefghijklmnop1234"]  # fmt: skip
    recorded = launch(*words, data=str(data))
    text = json.dumps(recorded)
    for secret in ("hf_abc", "xyz", "alice", "do not tell", str(Path(sys.executable).parent), socket.gethostname()):
        assert secret not in text, secret
    assert "~/'my data.jsonl' --eval_tokens 64" in recorded["command"], "a shell must see the ~"
    assert recorded["data"] == "~/my data.jsonl"
    if getpass.getuser() not in ("root", "user"):
        assert getpass.getuser() not in text


def test_launches_add_up_and_a_damaged_file_begins_anew(launch, tmp_path):
    launch("--seed", "1", precision="bf16")
    launch("--seed", "2")
    path = tmp_path / "stage" / "launches.json"
    recorded = read_launches(path)
    assert [each["command"][-1] for each in recorded] == ["1", "2"] and recorded[0]["precision"] == "bf16"
    assert recorded[0]["hardware"]["cores"] >= 1 and recorded[0]["versions"]["torch"]
    path.write_text(json.dumps([*recorded, "no launch", {"hardware": "fast"}]))
    assert read_launches(path) == recorded
    path.write_text("[{")
    launch("--seed", "3")
    assert [each["command"][-1] for each in read_launches(path)] == ["3"]


def test_what_cannot_be_recorded_is_said_and_ends_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    record_launch(tmp_path / "file")
    assert "could not be recorded" in capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the project is no checkout here")
def test_the_commit_is_the_projects_own():
    checkout = describe_checkout()
    assert len(checkout["commit"]) == 40 and checkout["dirty"] in (True, False)


def test_a_commit_of_somebody_elses_repository_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.utils.provenance.ROOT", tmp_path)
    assert describe_checkout() is None
    os.system(f"git init -q {shlex.quote(str(tmp_path))}")
    monkeypatch.setattr("recipes.utils.provenance.ROOT", tmp_path / "below")
    (tmp_path / "below").mkdir()
    assert describe_checkout() is None


@pytest.mark.launch
def test_a_stage_records_itself_and_its_run_can_be_reported(tiny, tmp_path):
    arguments = tiny | {"output_dir": tmp_path / "run" / "base"}
    assert run(flags(arguments)).code == 0
    (stage,) = gather(tmp_path / "run").stages
    (command,) = stage.commands
    assert command.startswith("python recipes/pretrain.py --dataset ") and "--num_iterations 6" in command
    assert (stage.steps, stage.tokens, stage.processes) == (6, 6 * 128, 1)
    assert stage.launched("precision") in ("bf16", "no") and stage.bpb > 0 and stage.finished
    assert stage.data == portable(str(tiny["dataset"]))
