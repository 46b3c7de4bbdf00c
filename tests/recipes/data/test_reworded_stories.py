"""Reworded stories ask the same, in words that are neither shown nor held out."""

import re
from collections import defaultdict
from functools import cache
from random import Random

import pytest

from recipes.data.primer.problems import STORIES, Problem, has_reserved_numbers
from recipes.data.primer.problems import problems as stories
from recipes.data.primer.reworded_stories import OTHER_WORDS, draw_reworded
from recipes.utils.calculator import calculator
from tests.recipes.data.test_composed_stories import sentences


@cache
def drawn(steps: int) -> tuple[Problem, ...]:
    rng = Random(4)
    return tuple(draw_reworded(rng, steps) for _ in range(1500))


@pytest.mark.parametrize("steps", [2, 3])
def test_the_answer_follows_from_the_numbers_that_are_told_and_an_aside_gives_one_more(steps):
    asides = 0
    for problem in drawn(steps):
        results = list(map(calculator, problem.expressions))
        assert len(results) == problem.steps == steps and results[-1] == problem.answer
        given = re.findall(r"\d+", problem.question)
        needed = re.findall(r"[a-d]", problem.kind.split(", ")[1])
        assert len(given) - len(set(needed)) in (0, 1), problem
        asides += len(given) > len(set(needed))
        assert not any(map(has_reserved_numbers, problem.expressions)), "a held-out pair of numbers"
    assert 0.3 < asides / len(drawn(steps)) < 0.6


@pytest.mark.parametrize("steps", [2, 3])
def test_they_are_clean_sentences_that_ask_once(steps):
    for problem in drawn(steps):
        assert not re.search(r"[{}]|  |\.\.|\\|(^|[.?] )[a-z]", problem.question), problem.question
        assert problem.question.count("?") == 1, problem.question


def test_questions_come_first_too_and_in_words_that_no_story_has():
    questions = [problem.question for problem in drawn(2) + drawn(3)]
    assert sum(not question.endswith("?") for question in questions) > 300
    words = {word for question in questions for word in re.findall(r"[a-z]+", question)}
    shown = {
        word for steps in (1, 2, 3) for problem in stories("shown", steps, 2000) for word in problem.question.split()
    }
    assert {"wins", "sells", "crates", "altogether", "borrows"} <= words - {word.strip(".,?") for word in shown}


@pytest.mark.parametrize("steps", [2, 3])
def test_no_question_is_one_that_a_conversation_or_an_exam_could_ask(steps):
    """The phrasing, without people, things and numbers, is neither."""
    told = {
        " ".join(sentences(problem.question))
        for split in ("shown", "validation")
        for problem in stories(split, steps, 2000)
    }
    for problem in drawn(steps):
        assert " ".join(sentences(problem.question)) not in told, problem.question


@pytest.mark.parametrize("steps", [2, 3])
def test_no_new_sentence_with_a_later_number_is_that_of_the_storys_held_out_phrasing(steps):
    told = {split: defaultdict(set) for split in ("train", "validation")}
    for split, by_story in told.items():
        for problem in stories(split, steps, 2000):
            by_story[problem.kind.split(", ")[1]].update(told_later(problem))
    for problem in drawn(steps):
        story = problem.kind.split(", ")[1]
        assert not told_later(problem) & (told["validation"][story] - told["train"][story]), problem


def told_later(problem: Problem) -> set[str]:
    """Sentences of a problem that give a number after its first, without people, things and numbers."""
    told, given, later = sentences(problem.question), 0, set()
    for sentence in told:
        given += sentence.count("#")
        later |= {sentence} if "#" in sentence and given > 1 else set()
    return later


def test_every_change_of_words_happens_to_some_story_that_training_may_use():
    phrasings = [p for steps in (2, 3) for group in STORIES[steps] for story in group for p in story.phrasings[:-1]]
    for pattern, _ in OTHER_WORDS:
        assert any(re.search(pattern, phrasing) for phrasing in phrasings), pattern
