"""TRL's configurations as they are read from its source: the same flags as those of the classes themselves."""

import pytest
from trl import GRPOConfig, SFTConfig

from recipes.training.trl_config import config_fields
from recipes.utils.arguments import find_flags


@pytest.mark.parametrize("config_class", [SFTConfig, GRPOConfig])
def test_the_fields_that_are_read_are_those_of_the_class(config_class):
    """All of them with their types, choices, defaults and help; TRL's next version included, or this fails."""
    read = find_flags(config_fields(config_class.__module__, config_class.__name__))
    there = find_flags(config_class)
    assert list(read) == list(there)
    for name, flag in there.items():
        mine = read[name]
        assert (mine.default, mine.help, mine.choices, mine.limits) == (
            flag.default, flag.help, flag.choices, flag.limits,
        ), name  # fmt: skip
        assert [type_name(each) for each in mine.types] == [type_name(each) for each in flag.types], name


def type_name(kind: object) -> str:
    return getattr(kind, "__name__", "") + str(getattr(kind, "__args__", ""))
