"""Depths, budgets and miniseries as people write them, and what is said of others."""

import re

import pytest

from benchmarks.scaling.arguments import ScalingArguments, parse_budgets, parse_depths, parse_series
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError


def test_lists_are_sorted_and_name_nothing_twice():
    assert parse_depths("4, 1,2,2") == [1, 2, 4]
    assert parse_budgets("3e13,1e13, 10000000000000") == [1e13, 3e13]


@pytest.mark.parametrize(
    ("text", "depths"),
    [
        ("d12..d26", [12, 14, 16, 18, 20, 22, 24, 26]),
        ("12..15", [12, 14]),
        ("d1..d1", [1]),
        ("d12,d16, 20", [12, 16, 20]),
        ("8", [8]),
    ],
)
def test_a_miniseries_is_every_other_depth_or_a_list(text, depths):
    assert parse_series(text) == depths


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths", "1,2,x"], "depths: 'x' is not a depth from 1 to 1,000."),
        (["--depths", "1,2.5,3"], "depths: '2.5' is not a depth"),
        (["--depths", "0,1,2"], "depths: '0' is not a depth"),
        (["--depths", "1,2,,3"], "depths: '' is not a depth"),
        (["--depths", "1..4"], "depths: '1..4' is not a depth"),
        (["--depths", "2,2,4"], "depths 2,2,4: a parabola needs 3 different depths or more."),
        (["--budgets", "1e13,much"], "budgets: 'much' is not a number of FLOPs; give some such as "),
        (["--budgets=-1e13"], "budgets: '-1e13' is not a number of FLOPs"),
        (["--budgets", "nan"], "budgets: 'nan' is not a number of FLOPs"),
        (["--miniseries", "d12-d26"], "miniseries 'd12-d26' names no depths; give d12..d26 (every other one) or"),
        (["--miniseries", "d0..d4"], "miniseries: '0' is not a depth from 1 to 1,000."),
        (["--miniseries", "d26..d12"], "miniseries 'd26..d12' has no depths: the first must not be beyond the last."),
        (["--miniseries", "d12", "--depths", "1,2,4"], "give miniseries, or depths and budgets of a grid, not both."),
    ],
)
def test_a_wrong_flag_is_one_line(words, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        parse_arguments(ScalingArguments, argv=words)
