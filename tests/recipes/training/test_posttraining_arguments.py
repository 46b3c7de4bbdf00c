"""The flags of SFT, DPO and GRPO: which are refused or may change on resuming, and how soon a mistake is told."""

import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from recipes.training.posttraining_arguments import DPOArguments, GRPOArguments, ModelArguments, SFTArguments
from recipes.training.trl_flags import REPLACED_BY, TRL_FLAGS
from recipes.utils.arguments import find_flags, resumable_flags
from recipes.utils.errors import InputError
from recipes.utils.processes import PATIENCE
from recipes.utils.provenance import ROOT


@pytest.mark.parametrize("name", REPLACED_BY)
def test_a_flag_that_would_change_nothing_is_refused_with_what_to_use_instead(name, tmp_path):
    value = {
        "model_init_kwargs": {"a": 1}, "reward_weights": [1.0], "hub_strategy": "end", "hub_always_push": True,
        "optim": "adafactor",
    }  # fmt: skip
    classes = (SFTArguments, DPOArguments, GRPOArguments, ModelArguments)
    known = [each for each in classes if name in {field.name for field in fields(each)}]
    assert known
    for each in known:
        kind = find_flags(each)[name].kind
        with pytest.raises(InputError, match=f"^{name} has no effect here: use {re.escape(REPLACED_BY[name])}"):
            each(**{name: value.get(name, 0.5 if kind is float else "0.5")})


def test_checkpoints_without_what_resuming_needs_are_refused():
    with pytest.raises(InputError, match="save_only_model leaves optimizer and random state out of the checkpoints"):
        GRPOArguments(save_only_model=True)


def test_all_that_is_known_of_trls_flags_is_of_flags_that_exist():
    known = {
        each.name for kind in (SFTArguments, DPOArguments, GRPOArguments, ModelArguments) for each in fields(kind)
    }
    assert known >= TRL_FLAGS.keys() | REPLACED_BY.keys()


@pytest.mark.parametrize("arguments_class", [SFTArguments, DPOArguments, GRPOArguments])
def test_what_is_logged_evaluated_saved_and_run_on_may_change_and_what_is_trained_may_not(arguments_class):
    resumable = resumable_flags(arguments_class) | resumable_flags(ModelArguments)
    assert resumable >= {
        *("output_dir", "resume", "logging_steps", "eval_steps", "save_steps", "save_total_limit", "push_to_hub"),
        *("bf16", "use_cpu", "attn_implementation", "gradient_checkpointing", "dataloader_num_workers"),
        *("ddp_timeout", "ddp_find_unused_parameters", "logging_nan_inf_filter"),
    }
    own = {
        SFTArguments: {"eval_rows", "early_stopping", "early_stopping_patience", "load_best_model_at_end"},
        DPOArguments: {"eval_rows", "eval_strategy"},
        GRPOArguments: {"pass_every", "pass_problems", "pass_samples", "pass_batch_size", "log_completions"},
    }
    assert resumable >= own[arguments_class]
    assert resumable.isdisjoint({
        *("source", "conversations", "preferences", "problems", "seed", "beta", "loss_type"),
        *("optimizer", "init_lr_frac", "matrix_lr", "max_steps"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "temperature", "use_peft"),
    })  # fmt: skip


def test_processes_wait_for_each_other_as_long_as_in_pretraining():
    assert SFTArguments().ddp_timeout == PATIENCE.total_seconds()


@pytest.mark.parametrize("script", ["sft", "dpo", "grpo"])
def test_a_wrong_flag_is_reported_before_torch_is_imported(script):
    code = f"""
import runpy, sys
sys.argv = ["{script}.py", "--init_lr_fraq", "1"]
try:
    runpy.run_path("recipes/{script}.py", run_name="__main__")
except SystemExit as end:
    print(end.code, "torch" in sys.modules, "trl.trainer.sft_config" in sys.modules)
"""
    end = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert end.stdout.split() == ["2", "False", "False"]
    assert end.stderr == f"{script}: unknown argument init_lr_fraq: did you mean init_lr_frac?\n"


@pytest.mark.slow
def test_importing_the_scripts_loads_neither_the_report_nor_the_upload():
    code = "import sys, recipes.sft, recipes.dpo, recipes.grpo\n"
    code += "print([m for m in sys.modules if m.startswith('evals.report')"
    code += " or m.startswith('recipes.publish.') and m != 'recipes.publish.after_training'])"
    end = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert end.stdout == "[]\n", end.stderr
