"""Composed problems are sound, and share neither kinds, nor numbers, nor sentences with what is held out."""

import re
from functools import cache
from random import Random

import pytest

from recipes.data.primer.composed_stories import STEPS, TOLD_IN_STORIES, draw_composed, is_held_out
from recipes.data.primer.everyday_tables import PEOPLE
from recipes.data.primer.problems import STORIES, THINGS, Problem, has_reserved_numbers
from recipes.data.primer.problems import problems as stories
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError

KINDS = [(split, steps) for split, all_steps in STEPS.items() for steps in all_steps]
NAMES = "|".join(sorted({person["name"] for person in PEOPLE}, key=len, reverse=True))
PLURALS = "|".join(f"{thing}s" for thing in THINGS)


@cache
def drawn(split: str, steps: int) -> tuple[Problem, ...]:
    rng = Random(3)
    return tuple(draw_composed(rng, steps, split) for _ in range(400))


def sequence(problem: Problem) -> tuple[str, ...]:
    """The steps of a composed problem, by its kind."""
    return tuple(problem.kind.split(", ")[1].split())


@pytest.mark.parametrize("split, steps", KINDS)
def test_the_expressions_lead_to_the_answer_by_the_numbers_that_are_told(split, steps):
    for problem in drawn(split, steps):
        results = list(map(calculator, problem.expressions))
        assert len(results) == problem.steps == steps and results[-1] == problem.answer
        given = re.findall(r"\d+", problem.question)
        for index, expression in enumerate(problem.expressions):
            for number in re.findall(r"\d+", expression):
                assert number in given + results[:index], problem
        assert all(result.isdigit() and 0 < int(result) < 1000 for result in results), problem
        unused = len(given) - len(re.findall(r"[a-h]", " ".join(sequence(problem))))
        assert unused == ("aside" in problem.kind), problem


@pytest.mark.parametrize("split, steps", KINDS)
def test_they_are_clean_sentences_and_end_by_asking(split, steps):
    for problem in drawn(split, steps):
        assert not re.search(r"[{}]|  |\.\.|\\|(^|[.?] )[a-z]", problem.question), problem.question
        assert problem.question.endswith("?") or "Find out how many" in problem.question, problem.question


def test_they_are_told_in_many_ways():
    kinds = {problem.kind.split(", ", 2)[2] for problem in drawn("train", 3)}
    assert len(kinds) == 6, "three forms, with and without a number to leave out"
    assert len({sequence(problem) for problem in drawn("train", 4)}) > 30


@pytest.mark.parametrize("split, steps", KINDS)
def test_kinds_and_numbers_of_the_exam_are_in_nothing_that_is_trained_on(split, steps):
    held_out = split == "validation"
    for problem in drawn(split, steps):
        assert any(map(has_reserved_numbers, problem.expressions)) == held_out
        assert is_held_out(sequence(problem)) == held_out
        assert not (held_out and sequence(problem) in TOLD_IN_STORIES)
    if held_out:
        assert len({sequence(problem) for problem in drawn(split, steps)}) >= 4


def anonymous(sentence: str) -> str:
    """A sentence without its people, things and numbers."""
    sentence = re.sub(rf"\b({NAMES}|he|she)\b", "N", sentence, flags=re.IGNORECASE)
    return re.sub(rf"\b({PLURALS})\b", "T", re.sub(r"\d+", "#", sentence))


def sentences(question: str) -> list[str]:
    return [anonymous(sentence) for sentence in re.split(r"(?<=[.?]) ", question)]


def test_no_sentence_with_a_later_number_is_shared_with_a_held_out_phrasing():
    exams = [problem for steps in STORIES if steps > 1 for problem in stories("validation", steps, 1500)]
    held_out = {sentence for problem in exams for sentence in sentences(problem.question)[1:] if "#" in sentence}
    held_out |= {first for problem in exams if (first := sentences(problem.question)[0]).count("#") > 1}
    assert len(held_out) > 40
    for steps in STEPS["train"]:
        for problem in drawn("train", steps):
            told = sentences(problem.question)
            for place, sentence in enumerate(told):
                later = place > 0 or sentence.count("#") > 1
                assert not (later and sentence in held_out), f"{problem.question!r} says {sentence!r}"


def test_problems_of_other_lengths_are_refused():
    with pytest.raises(InputError, match="none of 2 steps for validation"):
        draw_composed(Random(0), 2, "validation")
