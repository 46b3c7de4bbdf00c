"""Cards that differ, and cards that this torch was not built for, are found before the first step."""

import pytest

from recipes.training.machines import Card, check_cards, find_misfit
from recipes.utils.errors import InputError

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), CU126, True),
        ((8, 9), CU126, True),  # by the kernels of sm_86, which is of its generation
        ((10, 0), CU126, False),
        ((12, 0), CU126, False),
        ((3, 7), CU126, False),
        ((12, 0), [*CU126, "compute_90"], True),  # compiled from PTX at the start
        ((8, 0), ["sm_86"], False),  # older than what it was built for
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100a"], False),  # exactly that one
        ((10, 3), ["sm_100f"], True),  # its family
        ((9, 0), [], True),  # not told: AMD's
    ],
)
def test_a_card_is_refused_if_torch_has_no_kernels_for_it(capability, built_for, runs):
    misfit = find_misfit(capability, built_for)
    assert (misfit is None) == runs
    if misfit:
        assert f"sm_{capability[0]}{capability[1]}" in misfit and built_for[0] in misfit


def test_a_card_without_kernels_ends_the_run_with_its_rank_and_name():
    cards = [Card("NVIDIA H100", 80e9, None), Card("NVIDIA B200", 180e9, find_misfit((10, 0), CU126))]
    with pytest.raises(InputError, match="cannot use the NVIDIA B200 of rank 1: it is sm_100, and that build is for"):
        check_cards(cards)


def test_cards_that_differ_are_named_with_their_ranks():
    cards = [Card("NVIDIA H100", 80e9, None), Card("NVIDIA A100", 40e9, None), Card("NVIDIA H100", 80e9, None)]
    assert "(NVIDIA H100, 80 GB: rank 0, 2; NVIDIA A100, 40 GB: rank 1)" in check_cards(cards)
    assert check_cards([cards[0], cards[2]]) is None
