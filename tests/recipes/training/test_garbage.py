"""While a model trains, Python searches for garbage now and then only, and as ever once it has ended."""

import gc
import weakref

import pytest

from recipes.training.garbage import EVERY, RestingCollector


class Knot:
    """Garbage that only a search finds."""

    def __init__(self):
        self.me = self


def test_garbage_is_searched_for_after_the_first_step_and_every_so_many():
    before, found = Knot(), []
    with RestingCollector() as collector:
        assert gc.isenabled(), "the first step builds much that stays"
        for _ in range(2 * EVERY):
            found.append(weakref.ref(Knot()))
            collector.step()
            if len(found) == 1:
                kept, before = weakref.ref(before), None
            assert not gc.isenabled()
        alive = [each() is not None for each in found]
        assert alive == [False] * (EVERY + 1) + [True] * (EVERY - 1)
        assert kept() is not None, "what was there after the first step is not looked at again"
    assert gc.isenabled()
    gc.collect()
    assert kept() is None


def test_whatever_ends_the_run_has_garbage_searched_for_again():
    with pytest.raises(MemoryError), RestingCollector() as collector:
        collector.step()
        raise MemoryError
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with RestingCollector() as collector:
            collector.step()
        assert not gc.isenabled()
    finally:
        gc.enable()
