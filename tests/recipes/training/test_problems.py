"""The problems that GRPO trains on."""

from collections import Counter

import pytest

from recipes.data.primer.problems import problems as primer_problems
from recipes.training.problems import open_problems
from recipes.utils.errors import InputError
from tests.recipes.conftest import GUESSED


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 100])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_primer_gives_as_many_different_problems_as_asked_for(split, count):
    problems = open_problems("primer", split, count)
    assert len(problems) == len({row["prompt"][0]["content"] for row in problems}) == count


def test_training_has_few_problems_as_conversations_tell_them_and_most_in_other_words():
    kinds = open_problems("primer", "train", 200)["kind"]
    named = Counter(kind.split()[0] for kind in kinds if not kind.startswith("story"))
    assert named == {"recombined": 80, "reworded": 60, "retold": 10, "composed": 10} and len(kinds) == 200
    steps = {each.question: n for n in (1, 2, 3) for each in primer_problems("validation", n, 80, seed=1)}
    held_out = open_problems("primer", "validation", 200, seed=1)
    assert Counter(steps[row["prompt"][0]["content"]] for row in held_out) == {1: 40, 2: 80, 3: 80}


def test_problems_are_a_prompt_and_an_answer_the_same_for_the_same_seed_and_shuffled():
    problems = open_problems("primer", "train", 16, seed=3)
    assert set(problems.column_names) == {"answer", "kind", "prompt"}
    (message,) = problems[0]["prompt"]
    assert message["role"] == "user" and message["content"].endswith(("?", "."))
    assert problems[:] == open_problems("primer", "train", 16, seed=3)[:] != open_problems("primer", "train", 16)[:]
    assert [len(row["prompt"][0]["content"]) for row in problems][:3] != sorted(
        len(row["prompt"][0]["content"]) for row in problems
    )[:3], "not the one-step ones first"


def test_held_out_problems_are_no_training_problems():
    train, held_out = (
        set(map(str, open_problems("primer", split, 200)["prompt"])) for split in ("train", "validation")
    )
    assert not train & held_out


def test_gsm8k_is_read_from_a_directory(guessed):
    problems = open_problems(guessed, "train", 3)
    assert problems["answer"][:] == ["48"] * 3
    assert problems["prompt"][:] == [[{"role": "user", "content": GUESSED}]] * 3
    assert len(set(problems["kind"])) == 3, "each is a kind of its own"
    assert len(open_problems(guessed, "validation", 100)) == 1


@pytest.mark.parametrize("spec", ["gsm8", "primer:hard", ""])
def test_unknown_problems_are_named_with_the_known(spec):
    with pytest.raises(InputError, match=f"^no problems called '{spec}': choose primer, gsm8k, or gsm8k:PATH"):
        open_problems(spec, "train", 5)
