"""A run on the Hub: whole checkpoints arrive as they are written, and another machine goes on from the newest."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.launch.hub_mirror import HubMirror, newest_checkpoints
from recipes.training.checkpoint_files import find_damage, whole_checkpoints, write_manifest
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.hub.client import hub_environment
from tests.recipes.processes import flags, run
from tests.recipes.test_exactness import assert_same_run

PATIENCE = 240


def save(run_dir: Path, step: int, stage: str = "base") -> Path:
    """A checkpoint as our loop writes it, of other content at each step."""
    path = run_dir / stage / "checkpoints" / f"step_{step:06d}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(bytes([step]) * 500)
    (path / "training_state.json").write_text(json.dumps({"step": step}))
    (path / "random_states_0.pkl").write_bytes(b"r%d" % step)
    write_manifest(path)
    (run_dir / stage / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')
    return path


def checkpoints(hub, repo="ada/run") -> dict[str, str]:
    return newest_checkpoints(list(hub.files(repo)))


@pytest.fixture
def mirror(hub, tmp_path):
    mirror = HubMirror("ada/run", tmp_path / "run")
    mirror.pull()
    (tmp_path / "run").mkdir()
    return mirror


def test_a_new_run_gets_a_private_repository(hub, mirror):
    assert hub.repository("ada/run").private


def test_checkpoints_arrive_whole_and_replace_older_ones(hub, mirror):
    for step in (2, 4):
        save(mirror.run_dir, step)
        mirror.push_if_new()
    (mirror.run_dir / "base" / "checkpoints" / ".step_000006.partial").mkdir()
    mirror.push_if_new()
    commits = hub.repository("ada/run").commits
    assert len(commits) == 3, "the first, and one for each checkpoint"
    for commit, step in zip(commits[1:], (2, 4), strict=True):
        names = {path for path in commit.files if "checkpoints" in path}
        assert {Path(name).parent.name for name in names} == {f"step_{step:06d}"} and len(names) == 4
    assert hub.files("ada/run")["base/metrics.jsonl"] == b'{"step": 4}\n'


def test_unfinished_weights_and_locks_stay_here(hub, mirror):
    save(mirror.run_dir, 2)
    for name in (".lock", "model.safetensors"):
        (mirror.run_dir / "base" / name).write_bytes(b"half")
    mirror.push_if_new()
    assert not {"base/.lock", "base/model.safetensors"} & set(hub.files("ada/run"))
    (mirror.run_dir / "base" / "config.json").write_text("{}")
    mirror.push_at_last()
    assert {"base/config.json", "base/model.safetensors"} <= set(hub.files("ada/run"))


def test_another_machine_gets_what_the_run_goes_on_from(hub, mirror, tmp_path):
    save(mirror.run_dir, 2)
    (mirror.run_dir / "base" / "config.json").write_text("{}")
    mirror.push_if_new()
    newest = save(mirror.run_dir, 3, "mid")
    mirror.push_if_new()
    other = HubMirror("ada/run", tmp_path / "other")
    other.pull()
    assert (tmp_path / "other" / "base" / "config.json").exists()
    assert not (tmp_path / "other" / "base" / "checkpoints").exists(), "base is finished"
    (pulled,) = whole_checkpoints(tmp_path / "other" / "mid")
    assert find_damage(pulled) is None
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == {
        path.name: path.read_bytes() for path in newest.iterdir()
    }
    other.push_if_new()
    assert len(hub.repository("ada/run").commits) == 3, "what was pulled is not pushed again"


def test_a_checkpoint_deleted_while_it_goes_up_is_no_half_one(hub, mirror):
    first = save(mirror.run_dir, 2)
    hub.meddle = lambda method, path: shutil.rmtree(first, ignore_errors=True) if "/lfs/" in path else None
    mirror.push_if_new()
    assert len([path for path in hub.files("ada/run") if "step_000002" in path]) == 4


def test_what_is_newer_here_is_not_overwritten(hub, mirror, tmp_path, capsys):
    save(mirror.run_dir, 2)
    mirror.push_if_new()
    newer = save(mirror.run_dir, 4)
    metrics = (mirror.run_dir / "base" / "metrics.jsonl").read_text()
    again = HubMirror("ada/run", mirror.run_dir)
    again.pull()
    assert f"{newer} is newer than what ada/run holds" in capsys.readouterr().out
    assert (mirror.run_dir / "base" / "metrics.jsonl").read_text() == metrics
    again.push_if_new()
    assert checkpoints(hub) == {"base": "step_000004"}


def test_a_checkpoint_that_goes_away_before_it_is_read_is_told(hub, mirror, monkeypatch, capsys):
    gone = save(mirror.run_dir, 2)
    monkeypatch.setattr(mirror, "new_checkpoints", lambda: [gone])
    shutil.rmtree(gone)
    mirror.push_if_new()
    assert capsys.readouterr().out == f"not pushed yet: {gone}/manifest.json was replaced by a newer one.\n"
    assert checkpoints(hub) == {}


def test_a_push_that_fails_is_made_up_for(hub, mirror, capsys, monkeypatch):
    monkeypatch.setattr("recipes.launch.hub_mirror.PAUSE", 0)
    hub.meddle = lambda method, path: 500 if "/commit/" in path else None
    save(mirror.run_dir, 2)
    mirror.push_if_new()
    assert capsys.readouterr().out.startswith("not pushed yet: the Hub answered 500 for ada/run")
    assert checkpoints(hub) == {}
    hub.meddle = lambda method, path: None
    mirror.push_if_new()
    assert checkpoints(hub) == {"base": "step_000002"}


def test_what_never_gets_there_is_told_at_the_end(hub, mirror, monkeypatch):
    monkeypatch.setattr("recipes.launch.hub_mirror.PATIENCE", (0, 0))
    hub.meddle = lambda method, path: 403 if "/commit/" in path else None
    save(mirror.run_dir, 2)
    with pytest.raises(InputError, match="^you may not write to ada/run"):
        mirror.push_at_last()


# A job, for real


class Machine:
    """A fresh machine: an empty directory with the project in it, where a job's command runs as Ada."""

    def __init__(self, directory: Path, hub) -> None:
        directory.mkdir()
        for name in ("recipes", "accelerate_configs"):
            (directory / name).symlink_to(ROOT / name)
        self.directory, self.log = directory, directory / "log"
        self.environment = hub_environment(hub.url, "hf_adas_token", directory / "home") | {
            "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip

    def start(self, arguments: dict) -> subprocess.Popen:
        command = [sys.executable, "-m", "recipes.launch.hub_run", "--stage", "pretrain", "--hub_run_id", "ada/tiny"]
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*command, "--", *flags(arguments)], cwd=self.directory, env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


def wait_for_push(hub, machine, job, after: int = 0) -> int:
    """The step of a checkpoint on the Hub that is later than `after`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if ("model", "ada/tiny") in hub.store.repositories:
            step = int(checkpoints(hub, "ada/tiny").get("base", "step_0").removeprefix("step_"))
            if step > after:
                return step
        assert job.poll() is None and time.monotonic() < deadline, machine.log.read_text()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.launch
def test_jobs_that_end_in_the_middle_lose_nothing(hub, tiny, tmp_path):
    config = tmp_path / "empty.yaml"
    config.write_text("log_every: 1\n")
    long = tiny | {"num_iterations": 300, "save_every": 10, "eval_every": 100, "config": config}
    whole = tmp_path / "whole"
    assert run(flags(long | {"output_dir": whole})).code == 0

    first = Machine(tmp_path / "first", hub)  # dies
    job = first.start(long)
    step = wait_for_push(hub, first, job)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait(PATIENCE)
    second = Machine(tmp_path / "second", hub)  # is told to end
    job = second.start(long)
    wait_for_push(hub, second, job, after=step)
    job.terminate()
    assert job.wait(PATIENCE) == 0, second.log.read_text()
    said = second.log.read_text()
    assert "the run goes on from there" in said and "resuming from runs/tiny/base/checkpoints/step_" in said
    assert "stopped by a signal" in said
    stopped = checkpoints(hub, "ada/tiny")["base"]
    third = Machine(tmp_path / "third", hub)
    assert third.start(long).wait(PATIENCE) == 0, third.log.read_text()
    assert f"resuming from runs/tiny/base/checkpoints/{stopped}" in third.log.read_text()

    for commit in hub.repository("ada/tiny").commits[1:]:
        files = [path for path in commit.files if "checkpoints" in path]
        assert len({Path(path).parent for path in files}) == 1 and any("manifest" in path for path in files)
    run_dir = third.directory / "runs" / "tiny" / "base"
    assert hub.files("ada/tiny")["base/model.safetensors"] == (run_dir / "model.safetensors").read_bytes()
    assert_same_run(run_dir, whole)
