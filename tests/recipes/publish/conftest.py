"""A run to publish."""

import shutil
from functools import partial

import pytest

from tests.evals.run_files import LAUNCH, lines, training, write
from tests.hub.client import use_hub


@pytest.fixture
def as_ada(hub, tmp_path):
    """Makes another process Ada as well."""
    return partial(use_hub, hub.url, "hf_adas_token", tmp_path / "home")


@pytest.fixture
def run_dir(student, tmp_path):
    """A run whose last finished stage is mid, and whose SFT has just begun."""
    directory = tmp_path / "small"
    shutil.copytree(student, directory / "mid")
    write(directory / "mid" / "metrics.jsonl", lines([*training(4), {"step": 4, "val/bpb": 0.75}]))
    command = f"python recipes/midtrain.py --source runs/small/base --hub_token *** --output_dir {directory.name}/mid"
    write(directory / "mid" / "launches.json", [LAUNCH | {"command": command, "data": "primer:mid"}])
    write(directory / "sft" / "metrics.jsonl", lines(training(1)))
    return directory
