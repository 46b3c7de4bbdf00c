"""Retold stories ask for the same steps, and share no sentence with what is held out."""

import re
from functools import cache
from itertools import chain
from random import Random

import pytest

from recipes.data.primer.problems import STORIES, Problem, has_reserved_numbers
from recipes.data.primer.problems import problems as stories
from recipes.data.primer.recombined_stories import likeness
from recipes.data.primer.retold_stories import PHRASINGS, draw_retold
from recipes.utils.calculator import calculator
from tests.recipes.data.test_composed_stories import sentences

TOLD = {story.steps: story for steps in (2, 3) for group in STORIES[steps] for story in group}


@cache
def drawn(steps: int) -> tuple[Problem, ...]:
    rng = Random(5)
    return tuple(draw_retold(rng, steps) for _ in range(1500))


def test_every_story_of_several_steps_is_retold_in_several_ways():
    assert PHRASINGS.keys() == TOLD.keys()
    assert min(map(len, PHRASINGS.values())) >= 4
    everything = [phrasing for phrasings in PHRASINGS.values() for phrasing in phrasings]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("steps", TOLD, ids=" ".join)
def test_a_phrasing_gives_each_number_of_its_story_once(steps):
    for phrasing in PHRASINGS[steps]:
        assert tuple(sorted(re.findall(r"\{([a-d])\}", phrasing))) == TOLD[steps].given, phrasing


@pytest.mark.parametrize("steps", [2, 3])
def test_the_answer_follows_from_the_numbers_and_none_is_a_held_out_pair(steps):
    for problem in drawn(steps):
        results = list(map(calculator, problem.expressions))
        assert len(results) == problem.steps == steps and results[-1] == problem.answer
        given = re.findall(r"\d+", problem.question)
        used = [number for expression in problem.expressions for number in re.findall(r"\d+", expression)]
        assert not set(given) - set(used), problem
        assert not any(map(has_reserved_numbers, problem.expressions)), problem


@pytest.mark.parametrize("steps", [2, 3])
def test_they_are_clean_sentences_that_ask_once(steps):
    for problem in drawn(steps):
        assert not re.search(r"[{}]|  |\.\.|\\|(^|[.?] )[a-z]", problem.question), problem.question
        assert problem.question.count("?") == 1 and problem.question.endswith("?"), problem.question


def test_no_sentence_is_in_a_held_out_phrasing_and_no_question_is_one_that_is_shown():
    shown, held_out = (
        [sentences(problem.question) for steps in (2, 3) for problem in stories(split, steps, 2000)]
        for split in ("shown", "validation")
    )
    whole, unseen = set(map(tuple, shown)), set(chain(*held_out))
    for problem in drawn(2) + drawn(3):
        asked = sentences(problem.question)
        assert tuple(asked) not in whole and not unseen & set(asked), problem.question


@pytest.mark.parametrize("steps", TOLD, ids=" ".join)
def test_none_is_nearer_to_the_held_out_phrasing_than_those_that_are_shown_or_by_half(steps):
    """The same sentence about other things would be seen."""
    *others, _, held_out = TOLD[steps].phrasings
    limit = max(0.5, *(likeness(shown, held_out) for shown in others))
    for phrasing in PHRASINGS[steps]:
        assert likeness(phrasing, held_out) < limit, phrasing
