"""TRL's configurations as they are read from its source: the same flags as those of the classes themselves."""

from dataclasses import fields

import pytest
from trl import GRPOConfig, SFTConfig

from recipes import grpo, sft
from recipes.training.posttraining_arguments import GRPOArguments, SFTArguments
from recipes.training.trl_config import build_config, config_fields, refusals_in_one_line
from recipes.utils.arguments import find_flags
from recipes.utils.errors import InputError


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


@pytest.mark.parametrize(
    ("recipe", "arguments", "config_class"),
    [(sft, SFTArguments, SFTConfig), (grpo, GRPOArguments, GRPOConfig)],
)
def test_a_configuration_is_trls_with_all_flags(recipe, arguments, config_class, tmp_path, fresh_accelerate):
    args = arguments(max_steps=3, lr_scheduler_kwargs={"a": 1}, init_lr_frac=0.5)
    decided = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    config = build_config(recipe.TrainerConfig, args, **decided)
    assert isinstance(config, config_class) and args.output_dir != config.output_dir
    theirs = config_class(**{each.name: getattr(args, each.name) for each in fields(config_class)} | decided).to_dict()
    mine = config.to_dict()
    assert {name: mine[name] for name in theirs} == theirs
    assert mine["init_lr_frac"] == 0.5 and mine.keys() == {each.name for each in fields(arguments)}


@pytest.mark.parametrize(
    ("recipe", "args", "message"),
    [
        (grpo, {"num_generations": 12}, "num_generations"),
        (grpo, {"generation_batch_size": 16, "steps_per_generation": 2}, "steps_per_generation"),
        (sft, {"save_strategy": "epoch"}, "save and eval strategy to match"),
        (sft, {"bf16": True, "fp16": True}, "At most one of fp16 and bf16"),
    ],
)
def test_a_combination_that_trl_refuses_is_one_line(recipe, args, message, fresh_accelerate):
    arguments = SFTArguments if recipe is sft else GRPOArguments
    with pytest.raises(InputError, match=message) as error:
        build_config(recipe.TrainerConfig, arguments(**args), use_cpu=True)
    assert "\n" not in str(error.value)


def test_what_a_trainer_refuses_is_one_line_or_what_explains_it():
    for message, said in (
        ("no {% generation %}\nhere", "mark it"),
        ("two\nlines", "TRL refuses these flags: two lines"),
    ):
        with pytest.raises(InputError, match=f"^{said}$"), refusals_in_one_line({"generation": "mark it"}):
            raise ValueError(message)
    with pytest.raises(KeyError), refusals_in_one_line():
        raise KeyError("a mistake of ours keeps its traceback")
