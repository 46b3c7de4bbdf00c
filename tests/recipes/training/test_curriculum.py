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
    for _ in range(3):
        curriculum.count(["always"] * 8, [1.0] * 8)
        curriculum.count(["never"] * 8, [0.0] * 8)
        curriculum.count(["sometimes"] * 8, [1.0, 0.0] * 4)
    drawn = kinds_drawn(curriculum, 200)
    assert drawn["sometimes"] > 170
    assert drawn["always"] > 0 or drawn["never"] > 0, "none is lost for ever"


def test_what_has_not_been_tried_comes_before_what_is_known_to_be_easy_or_hard():
    curriculum = Curriculum(problems_of(new=100, known=100), seed=0)
    curriculum.count(["known"] * 8, [1.0] * 8)
    assert curriculum.variance("new") == 0.25 > 8 * curriculum.variance("known")


def test_a_kind_that_the_model_has_learned_meanwhile_is_soon_known_as_easy():
    curriculum = Curriculum(problems_of(kind=8), seed=0)
    for _ in range(10):
        curriculum.count(["kind"] * 8, [0.0] * 8)
    before = curriculum.variance("kind")
    for _ in range(8):
        curriculum.count(["kind"] * 8, [1.0] * 8)
    assert curriculum.solved["kind"] / curriculum.tried["kind"] > 0.9 and before < 0.05


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_every_problem_is_drawn_once_before_any_comes_again_and_none_twice_in_a_step(count):
    curriculum = Curriculum(problems_of(one=5, other=5), seed=0)
    times = Counter(dict.fromkeys(range(10), 0))
    for _ in range(20):
        rows = curriculum.draw(count)
        times.update(rows)
        assert len(set(rows)) == count
        assert max(times.values()) - min(times.values()) <= 1


def test_a_curriculum_that_is_loaded_goes_on_as_the_one_that_was_saved(tmp_path):
    rng = Random(0)

    def steps(curriculum: Curriculum, count: int) -> list[list[int]]:
        drawn = []
        for _ in range(count):
            drawn.append(curriculum.draw(4))
            kinds = [curriculum.kinds[row] for row in drawn[-1] for _ in range(2)]
            curriculum.count(kinds, [float(rng.random() < 0.5) for _ in kinds])
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
