"""Models are ranked by their mean score, with the standard errors of means and of paired differences."""

import numpy as np
import pytest

from evals.judge.instructions import Row
from evals.judge.ranking import pair_models, rank_models, ranking_lines

SCORES = {"good": [90, 80, 70, 100], "fair": [60, 80, 50, 90], "poor": [0, 10, None, 20]}


def tables(scores=SCORES):
    return {
        model: [Row(f"Q{n}", "", "R", f"{model} {n}", score, "Because.") for n, score in enumerate(own)]
        for model, own in scores.items()
    }


def test_an_instruction_counts_for_all_models_or_for_none():
    ranked = rank_models(tables())
    assert [each.model for each in ranked] == ["good", "fair", "poor"]
    assert ranked[0].mean_score == pytest.approx(90) and ranked[2].mean_score == pytest.approx(10)
    for each in ranked:
        scores = np.array([score for place, score in enumerate(SCORES[each.model]) if place != 2])
        assert each.standard_error == pytest.approx(scores.std(ddof=1) / np.sqrt(3))


def test_pairs_are_compared_on_the_same_instructions():
    pair = pair_models(tables())[0]
    differences = np.array([30, 0, 10])
    assert (pair.better, pair.worse) == ("good", "fair")
    assert pair.difference == pytest.approx(differences.mean())
    assert pair.standard_error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    assert (pair.wins, pair.ties) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_what_is_printed_names_the_instruction_where_they_differ_most():
    said = "\n".join(ranking_lines(tables()))
    assert "good - fair: 13.3 ± 8.8; better 67%, equal 33%, worse 0%" in said
    assert "asked      Q0" in said and "good 0" in said and "poor 0" in said
    assert ranking_lines(tables({"a": [None], "b": [1]})) == ["no answers were scored"]
    assert rank_models(tables({"a": [3], "b": [1]}))[0].standard_error is None
