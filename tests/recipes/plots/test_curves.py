"""The chart is a picture of the run, whatever the run left."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from recipes.plots.curves import draw_loss, draw_preferences, draw_reinforcement, over_run, smooth

TRAINED = [{"step": step, "train/loss": 5.0 / step} for step in range(1, 40)]
EVALUATED = [{"step": step, "val/bpb": 2.0 / step} for step in (10, 20, 30)]


def draw(records, directory: Path):
    path = directory / "loss.png"
    draw_loss(records, path, "a run", "mid")
    return image.imread(path)


@pytest.mark.parametrize(
    "records",
    [
        TRAINED + EVALUATED,
        TRAINED,
        TRAINED[:1],
        [*TRAINED, {"step": 40, "train/loss": math.nan}, {"step": 41, "train/loss": math.inf}],
        EVALUATED,
        [],
    ],
    ids=["trained and evaluated", "trained", "one step", "not finite", "evaluated", "nothing"],
)
def test_any_run_gives_a_picture(records, tmp_path):
    assert draw(records, tmp_path).shape == (675, 1200, 4)


def test_evaluations_are_in_the_picture(tmp_path):
    assert (draw(TRAINED, tmp_path) != draw(TRAINED + EVALUATED, tmp_path)).any()


def test_smoothing_by_hand():
    assert smooth([(1, 1.0), (2, 0.0)], weight=0.5) == [(1, 1.0), (2, pytest.approx(1 / 3))]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50))
def test_smoothed_values_lie_between_the_extremes_so_far(values):
    smoothed = smooth(list(enumerate(values)))
    assert [step for step, _ in smoothed] == list(range(len(values)))
    for count, (_, value) in enumerate(smoothed, 1):
        assert min(values[:count]) - 1e-6 <= value <= max(values[:count]) + 1e-6


@given(st.floats(-100, 100), st.integers(1, 100))
def test_a_constant_stays_what_it_is_from_the_first_step(value, count):
    assert [smoothed for _, smoothed in smooth([(0, value)] * count)] == pytest.approx([value] * count)


MEASURES = {"val/pass@1": "pass@1", "val/pass@8": "pass@8"}
MEASURED = [{"step": step, "val/pass@1": 0.5 + step / 100, "val/pass@8": 0.9} for step in (0, 15, 30)]
REWARDED = [{"step": step, "train/reward": step / 30} for step in range(1, 31)]
OTHERS = ("train/groups_with_spread", "train/completions/mean_length", "train/tools/call_frequency")
HEIGHT_OF_ONE = 675  # pixels of a picture with a single panel


def draw_passes(records, directory: Path, measures: dict[str, str] = MEASURES):
    path = directory / "pass_at_k.png"
    draw_reinforcement(records, measures, path)
    return image.imread(path)


@pytest.mark.parametrize(
    ("records", "panels"),
    [
        (MEASURED + REWARDED, 2),
        (MEASURED, 1),
        (MEASURED[:1], 1),
        (REWARDED, 1),
        ([*REWARDED, *MEASURED, {"step": 31, "train/reward": None, "val/pass@1": None}], 2),
        ([*MEASURED, {"step": 31, "train/reward": math.nan}], 1),
        ([{"step": 0, "val/pass@1": 0.0}, {"step": 1, "train/reward": 0.0}], 2),
    ],
    ids=["measured and rewarded", "measured", "once", "rewarded", "null", "not finite", "zero"],
)
def test_any_reinforcement_gives_a_picture(records, panels, tmp_path):
    height, width, _ = draw_passes(records, tmp_path).shape
    assert width == 1200 and (height == HEIGHT_OF_ONE if panels == 1 else height > HEIGHT_OF_ONE)


def test_rewards_and_each_measure_are_in_the_picture(tmp_path):
    whole = draw_passes(MEASURED + REWARDED, tmp_path)
    assert (whole != draw_passes(MEASURED + REWARDED, tmp_path, {"val/pass@1": "pass@1"})).any()
    for key, more in zip(OTHERS, (0, 1, 2), strict=True):  # the spread is drawn beside the reward
        added = [record | dict.fromkeys(OTHERS[: more + 1], 0.5) for record in REWARDED]
        picture = draw_passes(MEASURED + added, tmp_path)
        assert picture.shape[0] > whole.shape[0] or (more == 0 and (picture != whole).any()), key
        whole = picture


def test_standard_errors_are_bars_where_they_are_known(tmp_path):
    pictures = []
    for error in (None, 0.02, 0.05):
        pictures.append(
            draw_passes([MEASURED[0], *(each | {"val/pass@1_clustered_se": error} for each in MEASURED[1:])], tmp_path)
        )
    assert all((one != other).any() for one, other in pairwise(pictures))
    assert (pictures[0] == draw_passes(MEASURED, tmp_path)).all()


def test_how_the_replies_changed_is_told_by_the_ends_of_the_run():
    records = [record | {"train/tools/call_frequency": 1 + (record["step"] > 27)} for record in REWARDED]
    assert over_run(records) == [("reward", "0.07", "0.97"), ("calls a reply", "1.00", "2.00")]
    assert over_run(REWARDED[:1]) == [("reward", "0.03", "0.03")] and over_run([]) == []


def test_the_validation_loss_of_sft_is_in_the_picture(tmp_path):
    held_out = [{"step": step, "val/loss": 4.0 / step} for step in (10, 20, 30)]
    assert (draw(TRAINED, tmp_path) != draw(TRAINED + held_out, tmp_path)).any()


def test_preferences_are_drawn_whatever_was_measured(tmp_path):
    path = tmp_path / "loss.png"
    accuracies = [record | {"train/rewards/accuracies": 0.5} for record in TRAINED]
    held_out = [{"step": step, "val/loss": 0.5, "val/rewards/accuracies": 0.9} for step in (20, 39)]
    pictures = []
    for records in ([], TRAINED, accuracies, accuracies + held_out):
        draw_preferences(records, path, "DPO, loss")
        pictures.append(image.imread(path))
    assert all((one != other).any() for one, other in pairwise(pictures))
