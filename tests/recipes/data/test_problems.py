"""Word problems are sound, their solutions are true, and what is held out stays held out."""

import re
from random import Random

import pytest

from recipes.data.messages import check_messages
from recipes.data.primer.longer_stories import THREE_STEP_STORIES, TWO_STEP_STORIES
from recipes.data.primer.problems import (
    SPLITS,
    STORIES,
    Problem,
    draw_problem,
    has_reserved_numbers,
    problem_conversation,
    problems,
    solution_messages,
)
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError

EVERY_STORY = [(steps, story) for steps, groups in STORIES.items() for group in groups for story in group]


def drawn(steps: int, split: str, count: int = 400) -> list[Problem]:
    rng = Random(5)
    return [draw_problem(rng, steps, split) for _ in range(count)]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("split", SPLITS)
def test_the_expressions_lead_to_the_answer_one_after_the_other(steps, split):
    for problem in drawn(steps, split):
        results = list(map(calculator, problem.expressions))
        assert len(results) == problem.steps == steps
        assert results[-1] == problem.answer
        given = re.findall(r"\d+", problem.question)
        for index, expression in enumerate(problem.expressions):
            for number in re.findall(r"\d+", expression):
                assert number in given + results[:index], problem
        # No number is told in vain: each goes into a step.
        assert set(given) <= set(re.findall(r"\d+", " ".join(problem.expressions))), problem
        assert all(result.isdigit() and 0 < int(result) < 1000 for result in results), problem


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_there_are_many_stories_each_told_in_several_ways(steps):
    groups = STORIES[steps]
    assert len(groups) == (4 if steps == 1 else 1)
    assert all(len(group) >= 12 for group in groups)
    phrasings = [phrasing for group in groups for story in group for phrasing in story.phrasings]
    assert len(set(phrasings)) == len(phrasings)
    assert all(len(story.phrasings) >= 4 for group in groups for story in group)


@pytest.mark.parametrize("steps, text", [(2, TWO_STEP_STORIES), (3, THREE_STEP_STORIES)])
def test_each_story_holds_out_the_next_of_its_four_styles_and_shows_what_follows_them(steps, text):
    (group,) = STORIES[steps]
    for number, (block, story) in enumerate(zip(text.strip().split("\n\n"), group, strict=True)):
        _, *told = block.splitlines()
        assert story.draw_phrasing(Random(0), "validation") == told[:4][number % 4 - 1]
        shown = {story.draw_phrasing(Random(seed), "shown") for seed in range(60)}
        assert set(told[4:]) < shown and len(shown) == len(told) - 2


def test_every_phrasing_names_each_number_once_and_asks():
    for steps, story in EVERY_STORY:
        assert len(story.steps) == steps
        for phrasing in story.phrasings:
            assert sorted(re.findall(r"\{([abcd])\}", phrasing)) == list(story.given), phrasing
            assert phrasing.endswith("?") or "? " in phrasing, phrasing


def test_questions_are_clean_sentences():
    for steps in STORIES:
        for problem in drawn(steps, "train") + drawn(steps, "validation"):
            assert not re.search(r"[{}]|  |\.\.|\\|(^|[.?] )[a-z]", problem.question), problem.question


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_held_out_problems_have_numbers_and_of_several_steps_words_that_the_others_never_have(steps):
    train, held_out = drawn(steps, "train", 1000), drawn(steps, "validation")
    for problem in train:
        assert not any(map(has_reserved_numbers, problem.expressions))
    for problem in held_out:
        assert any(map(has_reserved_numbers, problem.expressions))

    if steps > 1:
        shown = drawn(steps, "shown", 1000)
        assert told_in_last(held_out, 1) == 1 and told_in_last(train, 1) == 0 and told_in_last(shown, 2) == 0
        assert 0.1 < told_in_last(train, 2) < 0.35  # one of the five that training may use


def told_in_last(problems: list[Problem], ways: int) -> float:
    """Share of the problems told in one of the last so many ways to tell their story."""
    phrasings = {phrasing for _, story in EVERY_STORY for phrasing in story.phrasings[-ways:]}
    patterns = [re.compile(re.sub(r"\\\{\w+\\\}", r"[\\w ]+", re.escape(phrasing))) for phrasing in phrasings]
    told = problems[:150]
    return sum(any(pattern.fullmatch(problem.question) for pattern in patterns) for problem in told) / len(told)


def test_no_sentence_with_a_later_number_is_shared_with_the_held_out_phrasing():
    for steps, story in EVERY_STORY:
        *others, held_out = story.phrasings
        for other in others if steps > 1 else ():
            for part, whole in [(sentence, other) for sentence in told_later(held_out)] + [
                (sentence, held_out) for sentence in told_later(other)
            ]:
                assert part not in whole, f"{held_out!r} is held out, but {other!r} also says {part!r}"


def told_later(phrasing: str) -> list[str]:
    """The sentences of a phrasing that give a number after the first."""
    return [sentence for sentence in re.split(r"[.?] ?", phrasing) if re.search(r"\{[bcd]\}", sentence)]


def test_reserved_numbers_are_reserved_in_either_order():
    pairs = [(a, b) for a in range(2, 60) for b in range(2, 60)]
    reserved = [(a, b) for a, b in pairs if has_reserved_numbers(f"{a}+{b}")]
    assert 0.05 < len(reserved) / len(pairs) < 0.15
    assert all(has_reserved_numbers(f"{b}+{a}") for a, b in reserved)


def test_a_sum_is_written_in_the_order_in_which_it_is_told():
    for problem in drawn(1, False) + drawn(1, True):
        if re.search(r"[+*]", problem.expressions[0]):
            assert re.findall(r"\d+", problem.question) == re.findall(r"\d+", problem.expressions[0])


def test_a_solution_calls_the_calculator_once_a_step_and_then_answers():
    problem = Problem("How many?", "14", 2, ("12+5", "17-3"))
    messages = solution_messages(problem)
    calls = [message["tool_calls"][0]["function"]["arguments"]["expression"] for message in messages[:-1:2]]
    assert calls == ["12+5", "17-3"]
    assert [message["content"] for message in messages] == ["", "17", "", "14", "The answer is 14."]
    assert check_messages(problem_conversation(problem)) == problem_conversation(problem)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_problems_are_different_and_depend_on_nothing_but_the_seed(split):
    first = problems(split, 2, 300, seed=1)
    assert first == problems(split, 2, 300, seed=1)
    assert len({problem.question for problem in first}) == 300
    assert not set(first) & set(problems(split, 2, 300, seed=2))


def test_splits_and_steps_that_do_not_exist_are_input_errors():
    with pytest.raises(InputError, match="'test'.*shown, train, validation"):
        problems("test", 1, 10)
    with pytest.raises(InputError, match="4 steps.*1, 2 or 3"):
        problems("train", 4, 10)
