"""The loop gives Muon the momentum and weight decay of each step, and those of an undisturbed run after resuming."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from recipes.training import muon, plan
from recipes.training.muon import MUON_2026
from recipes.training.schedule import Schedule
from tests.recipes.processes import flags, run
from tests.recipes.test_exactness import assert_same_run

pytestmark = pytest.mark.launch

STEPS = 6
SCHEDULE = Schedule(
    STEPS, warmup_steps=2, warmdown_steps=3, momentum=(0.5, 0.8, 0.6), momentum_warmup=2, cosine_weight_decay=True
)


def use_2026(file: Path) -> None:
    """In a training process: Muon's steps of 2026 with the schedule above; note what the groups have in each step."""

    def planned(*args, **kwargs):
        found = plan_training(*args, **kwargs)
        optimizer = replace(found.optimizer, matrix_lr=0.02, weight_decay=0.1, muon=MUON_2026)
        return replace(found, optimizer=optimizer, schedule=SCHEDULE)

    def noting_step(self, closure=None):
        group = self.param_groups[0]
        noted.append([group["lr"], group["momentum_start"], group["momentum"], group["weight_decay"]])
        file.write_text(json.dumps({"muon": noted, "adamw": self.param_groups[-1]["weight_decay"]}))
        return step(self, closure)

    noted, step, plan_training = [], muon.Muon.step, plan.plan_training
    plan.plan_training, muon.Muon.step = planned, noting_step


@pytest.fixture
def given(tiny, tmp_path) -> dict:
    never = {"eval_every": -1, "keep_checkpoints": 0, "mixed_precision": "no"}
    return tiny | never | {"num_iterations": STEPS, "output_dir": tmp_path / "run"}


def test_momentum_and_weight_decay_follow_the_schedule_also_after_resuming(given, tmp_path):
    end = run(flags(given), before=partial(use_2026, tmp_path / "whole.json"))
    assert end.code == 0, end.stderr
    whole = json.loads((tmp_path / "whole.json").read_text())
    for step, (lr, start, momentum, weight_decay) in enumerate(whole["muon"]):
        assert lr == 0.02 * SCHEDULE(step)
        assert start == momentum == SCHEDULE.momentum_at(step)
        assert weight_decay == 0.1 * SCHEDULE.weight_decay_at(step)
    assert len(whole["muon"]) == STEPS
    assert whole["adamw"] == 0

    shutil.copytree(tmp_path / "run", tmp_path / "undisturbed")
    (tmp_path / "run" / "config.json").unlink()  # as if it had not finished
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{step:06d}")
    end = run(flags(given), before=partial(use_2026, tmp_path / "resumed.json"))
    assert "step_000002, step 2" in end.stdout
    assert json.loads((tmp_path / "resumed.json").read_text())["muon"] == whole["muon"][2:]
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


def test_a_checkpoint_with_an_optimizer_of_another_generation_is_one_clear_line(given, tmp_path):
    assert run(flags(given)).code == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000002"
    other = given | {"output_dir": tmp_path / "other", "resume": checkpoint}
    end = run(flags(other), before=partial(use_2026, tmp_path / "other.json"))
    assert end.code == 2
    assert end.stderr.splitlines()[-1] == (
        f"pretrain: {checkpoint} does not fit this run's model and optimizer: the optimizer's state is that of the "
        "Muon of 2025, but this one is the Muon of 2026: go on with the settings that it was saved with, or start "
        "without the state"
    )
