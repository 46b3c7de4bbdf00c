"""`--optimizer MODULE:FUNCTION` trains every stage by the user's own optimizer, found where the recipe is started."""

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest

from recipes.utils.run_directory import ARGUMENTS, read_metrics
from tests.recipes.processes import REPOSITORY, flags, run

pytestmark = pytest.mark.launch

LION = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs" / "optimizers.md").read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the user is: a directory with lion.py, as the documentation has it."""
    directory = tmp_path_factory.mktemp("user")
    (directory / "lion.py").write_text(LION)
    return directory


@pytest.fixture(scope="module")
def base(tiny, place) -> Path:
    """A model pretrained by Lion."""
    train("pretrain", tiny | {"num_iterations": 20, "output_dir": place / "base", "optimizer": "lion:build"}, place)
    return place / "base"


def train(script: str, arguments: dict, place: Path) -> str:
    """What a run that is started in `place` prints."""
    end = run(flags(arguments), before=partial(os.chdir, place), script=script)
    assert end.code == 0, end.stderr
    return end.stdout


def losses(directory: Path) -> list[float]:
    return [record["train/loss"] for record in read_metrics(directory / "metrics.jsonl") if "train/loss" in record]


def recorded(directory: Path) -> str:
    return json.loads((directory / ARGUMENTS).read_text())["optimizer"]


def test_a_model_learns_by_lion(base):
    assert losses(base)[-1] < losses(base)[0] - 0.1
    assert recorded(base) == "lion:build"


def test_midtraining_takes_the_optimizer_and_its_state_over(base, sums, place):
    output_dir = place / "mid"
    more = {"max_seq_len": 32, "device_batch_size": 2, "total_batch_size": 128, "compile": "false", "eval_every": -1}
    stage = {"source": base, "conversations": sums, "num_iterations": 3, "output_dir": output_dir}
    printed = train("midtrain", stage | more, place)
    assert "lion:build, warm-started from" in printed
    assert recorded(output_dir) == "lion:build"


def test_sft_trains_by_lion(student, sums, place):
    stage = {"source": student, "conversations": sums, "max_steps": 3, "logging_steps": 1, "output_dir": place / "sft"}
    train("sft", stage | {"optimizer": "lion:build"}, place)
    assert len(losses(place / "sft")) == 3
    assert recorded(place / "sft") == "lion:build"


def test_grpo_trains_by_lion(guesser, guessed, place):
    stage = {"source": guesser, "problems": guessed, "max_steps": 2, "logging_steps": 1, "output_dir": place / "grpo"}
    batch = {"per_device_train_batch_size": 16, "num_generations": 16, "max_completion_length": 24, "pass_every": -1}
    train("grpo", stage | batch | {"optimizer": "lion:build"}, place)
    assert recorded(place / "grpo") == "lion:build"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiger:build", "optimizer tiger:build: no module tiger in {place} or among the installed packages."),
        ("lion:built", "optimizer lion:built: module lion has no built."),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(tiny, place, tmp_path, name, message):
    arguments = flags(tiny | {"output_dir": tmp_path, "optimizer": name})
    end = run(arguments, before=partial(os.chdir, place))
    assert end.code == 2, end.stderr
    assert end.stderr == f"pretrain: {message.format(place=place)}\n"
