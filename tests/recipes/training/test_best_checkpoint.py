"""The best checkpoint is found from what is on disk, whatever happened to the run."""

import json
import math

import pytest

from recipes.training.best_checkpoint import first_candidate, record_best, recorded_best
from recipes.training.checkpoint_files import whole_checkpoints


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints of four steps."""
    for step in (2, 4, 6, 8):
        (tmp_path / "checkpoints" / f"step_{step:06d}").mkdir(parents=True)
    return tmp_path


def records(**values: float | None) -> list[dict]:
    return [{"step": int(name[1:]), "val/bpb": value} for name, value in values.items()]


def test_the_lowest_counts_of_those_that_have_a_checkpoint(run):
    best = record_best(run, [*records(_2=3.0, _3=1.0, _4=2.0, _6=2.5, _8=2.0), {"step": 8, "train/loss": 0.1}])
    assert (best.step, best.bpb) == (4, 2.0), "step 3 has none, and of equals the older one counts"
    assert recorded_best(run) == run / "checkpoints" / "step_000004"
    said = json.loads((run / "checkpoints" / "best.json").read_text())
    assert said == {"checkpoint": "step_000004", "step": 4, "bpb": 2.0}


def test_what_is_not_a_number_is_never_the_best(run):
    assert record_best(run, records(_2=None, _4=math.nan, _6=2.0)).step == 6


def test_one_that_was_set_aside_is_the_best_no_longer(run):
    measured = records(_2=3.0, _4=2.0)
    record_best(run, measured)
    whole_checkpoints(run)[1].rename(run / "checkpoints" / "abandoned_step_000004")
    assert recorded_best(run) is None
    assert record_best(run, measured[:1]).step == 2
    assert record_best(run, []) is None and not (run / "checkpoints" / "best.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkpoint": 5}', '{"checkpoint": "step_000009"}'])
def test_a_damaged_record_names_none(run, content):
    (run / "checkpoints" / "best.json").write_text(content)
    assert recorded_best(run) is None


@pytest.mark.parametrize(
    ("save", "evaluate", "first"), [(2, 3, 6), (5, 5, 5), (7, 5, 20), (0, 5, 20), (5, 0, 20), (40, 40, 20)]
)
def test_the_first_step_that_can_be_the_best(save, evaluate, first):
    assert first_candidate(save, evaluate, 20) == first
