"""Problems are drawn by how often their kind was solved, and a resumed run draws what it would have drawn."""

from collections import Counter
from random import Random

import datasets
import pytest

from recipes.training.curriculum import Curriculum


def problems_of(**kinds: int) -> datasets.Dataset:
    """So many problems of each kind."""
    names = [kind for kind, count in kinds.items() for _ in range(count)]
    return datasets.Dataset.from_dict({"kind": names, "answer": [str(row) for row in range(len(names))]})


def kinds_drawn(curriculum: Curriculum, draws: int, count: int = 1) -> Counter:
    return Counter(curriculum.kinds[row] for _ in range(draws) for row in curriculum.draw(count))


def test_kinds_that_are_always_or_never_solved_become_rare():
    curriculum = Curriculum(problems_of(always=300, sometimes=300, never=300), seed=0)
    for _ in range(10):
        curriculum.count([("always", [1.0] * 8), ("never", [0.0] * 8), ("sometimes", [1.0, 0.0] * 4)])
    drawn = kinds_drawn(curriculum, 200)
    assert drawn["sometimes"] > 140
    assert drawn["always"] > 0 or drawn["never"] > 0, "none is lost for ever"


def test_what_has_not_been_tried_comes_before_what_is_known_to_be_easy_or_hard():
    curriculum = Curriculum(problems_of(new=100, known=100), seed=0)
    curriculum.count([("known", [1.0] * 8)] * 3)
    assert curriculum.variance("new") > 2 * curriculum.variance("known")


def test_a_kind_of_which_some_problems_are_always_and_others_never_solved_teaches_nothing():
    curriculum = Curriculum(problems_of(split=100, mixed=100), seed=0)
    for _ in range(5):
        curriculum.count([("split", [1.0] * 8), ("split", [0.0] * 8), ("mixed", [1.0, 0.0] * 4)])
    assert curriculum.variance("split") < 0.05 < 0.2 < curriculum.variance("mixed") < 0.26


def test_a_kind_that_has_not_been_tried_is_expected_to_be_as_its_family():
    curriculum = Curriculum(problems_of(kind=8), seed=0)
    new = curriculum.variance("long, three, asked first")
    curriculum.count([("long, three, joined", [0.0] * 8), ("long, two, joined", [0.0] * 8)] * 4)
    family, sort = (curriculum.variance(kind) for kind in ("long, three, asked first", "long, four, asked first"))
    assert family < sort < new == curriculum.variance("short, three, joined")
    curriculum.count([("long, three, asked first", [1.0, 0.0] * 4)] * 4)
    assert curriculum.variance("long, three, asked first") > 0.15, "its own replies count for more"


def test_what_the_model_has_learned_meanwhile_is_forgotten_as_hard():
    curriculum = Curriculum(problems_of(kind=8), seed=0)
    curriculum.count([("kind", [0.0] * 8)] * 20)
    before = curriculum.variance("kind")
    curriculum.count([("kind", [1.0, 0.0] * 4)] * 10)
    assert before < 0.03 and curriculum.variance("kind") > 0.12


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_every_problem_is_drawn_once_before_any_comes_again_and_none_twice_in_a_step(count):
    curriculum = Curriculum(problems_of(one=5, other=5), seed=0)
    times = Counter(dict.fromkeys(range(10), 0))
    for _ in range(20):
        rows = curriculum.draw(count)
        times.update(rows)
        assert len(set(rows)) == count
        assert max(times.values()) - min(times.values()) <= 1


def test_the_share_of_problems_with_a_spread_is_that_of_the_latest():
    curriculum = Curriculum(problems_of(kind=8), seed=0)
    before = curriculum.spread
    curriculum.count([("kind", [1.0, 0.0])] * 100)
    assert before < 0.4 < 0.99 < curriculum.spread
    curriculum.count([("kind", [1.0, 1.0]), ("kind", [0.0, 0.0])] * 50)
    assert curriculum.spread < 0.01


def test_a_curriculum_that_is_loaded_goes_on_as_the_one_that_was_saved(tmp_path):
    rng = Random(0)

    def steps(curriculum: Curriculum, count: int) -> list[list[int]]:
        drawn = []
        for _ in range(count):
            drawn.append(curriculum.draw(4))
            curriculum.count((curriculum.kinds[row], [float(rng.random() < 0.5) for _ in "ab"]) for row in drawn[-1])
        return drawn

    problems = problems_of(a=20, b=20, c=20)
    curriculum = Curriculum(problems, seed=1)
    steps(curriculum, 9)
    curriculum.save(tmp_path)
    state = rng.getstate()
    expected = steps(curriculum, 12)
    resumed = Curriculum(problems, seed=1)
    resumed.load(tmp_path)
    rng.setstate(state)
    assert steps(resumed, 12) == expected

    afresh = Curriculum(problems, seed=1)
    afresh.load(tmp_path / "a checkpoint of before")
    assert afresh.draws == 0 and afresh.draw(4) == Curriculum(problems, seed=1).draw(4)
    assert afresh.draw(4) != Curriculum(problems, seed=2).draw(4)
