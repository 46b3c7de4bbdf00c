"""The schedule rises, holds and falls as it says, for every length of run."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.training.schedule import Schedule


@st.composite
def schedules(draw):
    """Any length; warmup and warmdown do not overlap."""
    warmup = draw(st.floats(0, 1))
    return Schedule(
        num_steps=draw(st.integers(1, 3000)),
        warmup_ratio=warmup,
        warmdown_ratio=draw(st.floats(0, 1 - warmup)),
        final_fraction=draw(st.floats(0, 1)),
    )


def curve(schedule):
    return [schedule(step) for step in range(schedule.num_steps)]


@given(schedules())
def test_multipliers_lie_above_zero_and_never_above_one(schedule):
    assert all(0 < multiplier <= 1 for multiplier in curve(schedule))


@given(schedules())
def test_it_rises_then_holds_then_falls(schedule):
    multipliers = curve(schedule)
    top = multipliers.index(max(multipliers))
    assert multipliers[: top + 1] == sorted(multipliers[: top + 1])
    assert multipliers[top:] == sorted(multipliers[top:], reverse=True)


@given(schedules())
def test_no_step_jumps_further_than_its_ramp_is_steep(schedule):
    multipliers = curve(schedule)
    ramps = [ratio * schedule.num_steps for ratio in (schedule.warmup_ratio, schedule.warmdown_ratio)]
    steepest = max((1 / ramp for ramp in ramps if ramp > 0), default=0.0)
    for before, after in pairwise(multipliers):
        assert abs(after - before) <= steepest + 1e-9


@given(schedules())
def test_it_ends_at_the_final_fraction(schedule):
    assert schedule(schedule.num_steps) == pytest.approx(
        schedule.final_fraction if schedule.warmdown_ratio else 1.0, abs=1e-9
    )


def test_ten_steps_by_hand():
    schedule = Schedule(num_steps=10, warmup_ratio=0.2, warmdown_ratio=0.4, final_fraction=0.2)
    assert curve(schedule) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4])


def test_without_ramps_it_is_constant():
    assert set(curve(Schedule(num_steps=7, warmdown_ratio=0.0))) == {1.0}
