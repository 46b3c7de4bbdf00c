"""The configuration of TRL's trainers out of our arguments, and what TRL refuses."""

from dataclasses import fields

import pytest
from trl import DPOConfig, GRPOConfig, SFTConfig

from recipes import dpo, grpo, sft
from recipes.training.posttraining_arguments import DPOArguments, GRPOArguments, SFTArguments
from recipes.training.trainer_run import build_trainer_config, refusals_in_one_line
from recipes.utils.errors import InputError
from recipes.utils.hardware import has_bf16
from recipes.utils.processes import join_processes


@pytest.mark.parametrize(
    ("recipe", "arguments", "config_class"),
    [(sft, SFTArguments, SFTConfig), (dpo, DPOArguments, DPOConfig), (grpo, GRPOArguments, GRPOConfig)],
)
def test_a_configuration_is_trls_with_all_flags(recipe, arguments, config_class, fresh_accelerate):
    args = arguments(max_steps=3, lr_scheduler_kwargs={"a": 1}, init_lr_frac=0.5, output_dir="runs")
    processes = join_processes(use_cpu=True)
    config = build_trainer_config(recipe.TrainerConfig, args, processes)
    decided = {"output_dir": "runs/checkpoints", "use_cpu": True, "bf16": has_bf16(processes.device)}
    assert isinstance(config, config_class) and args.output_dir != config.output_dir
    theirs = config_class(**{each.name: getattr(args, each.name) for each in fields(config_class)} | decided).to_dict()
    mine = config.to_dict()
    assert {name: mine[name] for name in theirs} == theirs
    assert mine["init_lr_frac"] == 0.5 and mine.keys() == {each.name for each in fields(arguments)}


@pytest.mark.parametrize("chosen", [None, False, True])
def test_precision_is_the_hardwares_unless_it_is_chosen(chosen, fresh_accelerate):
    processes = join_processes(use_cpu=True)
    args = SFTArguments(bf16=chosen, push_to_hub=True, hub_model_id="ada/model")
    config = build_trainer_config(sft.TrainerConfig, args, processes)
    assert config.bf16 == (has_bf16(processes.device) if chosen is None else chosen)
    assert not config.push_to_hub and config.hub_model_id is None, "the script publishes, not Trainer"


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
        build_trainer_config(recipe.TrainerConfig, arguments(**args), join_processes(use_cpu=True))
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
