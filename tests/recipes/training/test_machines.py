"""Cards that differ are said before the first step."""

from recipes.training.machines import describe_differences


def test_cards_that_differ_are_named_with_their_ranks():
    cards = [("NVIDIA H100", 80e9), ("NVIDIA A100", 40e9), ("NVIDIA H100", 80e9)]
    assert "(NVIDIA H100, 80 GB: rank 0, 2; NVIDIA A100, 40 GB: rank 1)" in describe_differences(cards)
    assert describe_differences([cards[0], cards[2]]) is None
