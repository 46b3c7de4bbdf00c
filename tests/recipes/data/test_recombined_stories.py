"""Recombined stories are sound, in the conversations' words, and none is a phrasing that exams ask in."""

import re
from collections import Counter
from functools import cache
from itertools import chain
from random import Random

import pytest

from recipes.data.primer.problems import STORIES, Problem, has_reserved_numbers
from recipes.data.primer.problems import problems as stories
from recipes.data.primer.recombined_stories import TALES, draw_recombined, is_like_exams, likeness
from recipes.utils.calculator import calculator
from tests.recipes.data.test_composed_stories import sentences

TOLD = {story.steps: story for steps in (2, 3) for group in STORIES[steps] for story in group}
FEWER = r"\b(takes?|loses|lost)\b|gives away|gives \d+ (away|of|to)|gives \d+ \w+ to"
MORE = r"\b(gets|finds|buys|brings)\b|gives \w+ \d+ more"


@cache
def drawn(steps: int) -> tuple[Problem, ...]:
    rng = Random(6)
    return tuple(draw_recombined(rng, steps) for _ in range(1500))


def words(questions: list[str]) -> set[str]:
    return {word for question in questions for word in re.findall(r"\b[a-z]+", question)}


def test_every_tale_has_the_steps_of_a_story_and_nearly_all_stories_have_a_tale():
    assert TALES.keys() <= TOLD.keys() and len(TOLD) - len(TALES) <= 3, "prices are not told so"
    for steps, tale in TALES.items():
        assert tuple(sorted(re.findall("[a-d]", tale))) == TOLD[steps].given, "each number is told once"


def follow(text: str) -> int:
    """How many there are at the end of a tale, or in a share of it, clause by clause."""
    text = re.sub(r"^How many [^?]* if ", "", text)
    group = re.match(r"(?:Each|Every one) of (\d+) children (?=\w+ \d+ \w+(,| and) )", text)
    text = text[group.end() :] if group else text
    pile = None
    for clause in re.split(r"[.,?](?: |$)| and ", text):
        numbers = list(map(int, re.findall(r"\d+", clause)))
        if not numbers:
            continue
        amount = numbers[0] * numbers[1] if len(numbers) == 2 else numbers[0]
        if pile is None:
            pile = amount
        elif "equally" in clause:
            pile //= amount
        elif re.search(FEWER, clause):
            pile -= amount
        else:
            assert re.search(MORE, clause), clause
            pile += amount
    return pile * int(group[1]) if group else pile


@pytest.mark.parametrize("steps", [2, 3])
def test_the_answer_is_what_comes_of_the_tale(steps):
    """Worked out from the text, and not from the steps."""
    for problem in drawn(steps):
        results = list(map(calculator, problem.expressions))
        assert len(results) == problem.steps == steps and results[-1] == problem.answer
        assert not any(map(has_reserved_numbers, problem.expressions)), "a held-out pair of numbers"
        assert str(follow(problem.question)) == problem.answer, problem


@pytest.mark.parametrize("steps", [2, 3])
def test_they_are_clean_sentences_that_ask_once_about_somebody_who_was_named(steps):
    for problem in drawn(steps):
        assert not re.search(r"[{}]|  |\.\.|\\|(^|[.?] )[a-z]", problem.question), problem.question
        assert problem.question.count("?") == 1 and problem.question.endswith("?"), problem.question
        *told, question = re.split(r"(?<=[.]) ", problem.question)
        asked = re.search(r"does ([A-Z]\w+) ", question)
        assert not asked or not told or asked[1] in " ".join(told), problem.question
        assert not re.search(r"^((He|She)|(There|\d+) [^.]*\. (He|She)) ", problem.question), problem.question


def test_all_words_are_known_from_conversations_and_there_are_many_ways_to_tell():
    problems = drawn(2) + drawn(3)
    shown = words([problem.question for steps in (1, 2, 3) for problem in stories("shown", steps, 3000)])
    assert words([problem.question for problem in problems]) <= shown
    forms = Counter(problem.kind.rsplit(", ", 1)[1] for problem in problems)
    assert set(forms) == {"sentences", "clauses", "condition"} and min(forms.values()) > 300
    assert len({tuple(sentences(problem.question)) for problem in problems}) > 1500


def test_none_is_shown_or_shares_a_telling_sentence_with_an_exam():
    shown, held_out = (
        [sentences(problem.question) for steps in (2, 3) for problem in stories(split, steps, 3000)]
        for split in ("shown", "validation")
    )
    whole, unseen = set(map(tuple, shown)), set(chain(*held_out))
    for problem in drawn(2) + drawn(3):
        first, *later = sentences(problem.question)
        telling = {each for each in later if "#" in each} | ({first} if first.count("#") > 1 else set())
        assert not telling & unseen, problem.question
        assert (first, *later) not in whole, problem.question


@pytest.mark.parametrize("steps", TOLD, ids=" ".join)
def test_a_held_out_phrasing_and_one_that_differs_in_a_word_would_be_left_out(steps):
    *_, held_out = TOLD[steps].phrasings
    assert likeness(held_out, held_out) == 1
    for told in (held_out, held_out.replace("How many", "How much")):
        assert is_like_exams(TOLD[steps], told), told
