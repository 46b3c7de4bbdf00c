"""The schedule rises, holds and falls as it says, for every length of run."""

import math
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


# nanochat's of 2026, by its formulas


def nanochats(num_steps):
    return Schedule(
        num_steps,
        warmup_steps=40,
        warmdown_steps=round(0.65 * num_steps),
        final_fraction=0.05,
        momentum=(0.85, 0.97, 0.90),
        cosine_weight_decay=True,
    )


@pytest.mark.parametrize("num_steps", [30, 100, 401, 777, 1500])
def test_learning_rate_momentum_and_weight_decay_of_2026_follow_their_formulas(num_steps):
    schedule, warmdown = nanochats(num_steps), round(0.65 * num_steps)
    for step in range(num_steps):
        done = max(0.0, 1 - (num_steps - step) / warmdown)  # share of the warmdown
        rate = (step + 1) / 40 if step < 40 else 1 - 0.95 * done
        momentum = 0.85 + 0.12 * step / 400 if step < 400 else 0.97 - 0.07 * done
        assert schedule(step) == pytest.approx(rate, abs=1e-12)
        assert schedule.momentum_at(step) == pytest.approx(momentum, abs=1e-12)
        assert schedule.weight_decay_at(step) == pytest.approx(math.cos(math.pi * step / num_steps / 2) ** 2)


def test_momentum_and_weight_decay_stay_the_optimizers_own_unless_asked_for():
    schedule = Schedule(num_steps=50)
    assert {schedule.momentum_at(step) for step in range(50)} == {None}
    assert {schedule.weight_decay_at(step) for step in range(50)} == {1.0}


def test_numbers_of_steps_count_instead_of_ratios():
    schedule = Schedule(num_steps=10, warmup_ratio=0.9, warmdown_ratio=0.9, warmup_steps=2, warmdown_steps=4)
    assert curve(schedule) == curve(Schedule(num_steps=10, warmup_ratio=0.2, warmdown_ratio=0.4))
    assert curve(Schedule(num_steps=10, warmup_steps=0, warmdown_steps=0)) == [1.0] * 10
