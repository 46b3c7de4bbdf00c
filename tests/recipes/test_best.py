"""The best checkpoint of a run stays, is named and loads, whatever happens; dropout acts in training only."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from recipes.training import loop
from recipes.training.checkpoint_files import whole_checkpoints
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import Running, flags, run
from tests.recipes.test_exactness import assert_same_run

pytestmark = pytest.mark.launch


def worsen(after: int) -> None:
    """In a training process: each evaluation after so many steps says something worse than the one before."""

    class Worsening(loop.TrainingLoop):
        def __post_init__(self):
            super().__post_init__()
            self.evaluations = [
                loop.Evaluation(each.name, each.every, self.worse(each.measure)) for each in self.evaluations
            ]

        def worse(self, measure):
            def measured(model):
                step = max((record["step"] for record in self.metrics.records), default=0)
                step = torch.tensor(float(step))  # known to the main process: tell the others
                step = int(self.accelerator.reduce(step, reduction="sum").item())
                return measure(model) | {"val/bpb": float(abs(step - after) + 1)}

            return measured

    loop.TrainingLoop = Worsening


@pytest.fixture(scope="module")
def best(tiny) -> dict:
    """Arguments of a run whose evaluations all have a checkpoint."""
    return tiny | {"num_iterations": 12, "save_every": 2, "eval_every": 2, "keep_best": "true", "keep_checkpoints": 2}


def checkpoints(output_dir: Path) -> list[int]:
    return [int(path.name[5:]) for path in whole_checkpoints(output_dir)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_best_stays_beside_the_newest_is_named_and_loads(best, gpt2_config, tmp_path, processes):
    argv = flags(best | {"output_dir": tmp_path, "model_config": gpt2_config})
    end = run(argv, processes, before=partial(worsen, 4))
    assert end.code == 0, end.stderr
    assert checkpoints(tmp_path) == [4, 10, 12]
    path = tmp_path / "checkpoints" / "step_000004"
    assert f"best         step 4, val/bpb 1.0000: {path} loads by from_pretrained" in end.stdout
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["checkpoint"] == path.name
    assert isinstance(AutoModelForCausalLM.from_pretrained(path), GPT2LMHeadModel)


def test_a_killed_run_keeps_the_best_of_the_undisturbed_one(best, gpt2_config, tmp_path):
    argv = flags(best | {"output_dir": tmp_path, "model_config": gpt2_config})
    attempt = Running(argv, before=partial(worsen, 4))
    attempt.wait_until(lambda: 6 in checkpoints(tmp_path))
    attempt.kill()
    assert 4 in checkpoints(tmp_path)
    end = run(argv, before=partial(worsen, 4))
    assert end.code == 0, end.stderr
    assert checkpoints(tmp_path) == [4, 10, 12] and "best         step 4," in end.stdout


def test_going_back_before_the_best_sets_it_aside_and_looks_for_another(best, tmp_path):
    first = best | {"output_dir": tmp_path, "keep_checkpoints": 0}
    assert run(flags(first), before=partial(worsen, 8)).code == 0
    (tmp_path / "config.json").unlink()
    back = first | {"resume": tmp_path / "checkpoints" / "step_000004", "keep_checkpoints": 1}
    end = run(flags(back), before=partial(worsen, 4))
    assert end.code == 0, end.stderr
    assert checkpoints(tmp_path) == [4, 12] and (tmp_path / "checkpoints" / "abandoned_step_000008").is_dir()
    assert "best         step 4," in end.stdout


def test_a_flag_forgotten_on_resuming_does_not_cost_the_best(best, tmp_path):
    whole = best | {"output_dir": tmp_path}
    assert run(flags(whole), before=partial(worsen, 4)).code == 0
    (tmp_path / "config.json").unlink()
    shutil.rmtree(whole_checkpoints(tmp_path)[-1])
    del whole["keep_best"]
    assert run(flags(whole), before=partial(worsen, 4)).code == 0
    assert checkpoints(tmp_path) == [4, 10, 12]


def test_checkpoints_that_no_evaluation_meets_are_told_at_the_start(best, tmp_path):
    end = run(flags(best | {"output_dir": tmp_path, "save_every": 5, "eval_every": 3}))
    assert "save_every 5 and eval_every 3 do not meet before the last step, 12, which alone can be" in end.stdout
    assert "best         step 12," in end.stdout
    end = run(flags(best | {"output_dir": tmp_path / "never", "eval_every": -1}))
    assert end.code == 2 and "keep_best needs evaluations" in end.stderr


def note_modes(file: Path) -> None:
    """In the training process: note whether dropout acts, in steps and out of them."""
    dropout = torch.nn.Dropout.forward

    def noting(self, inputs):
        with file.open("a") as lines:
            lines.write(f"{torch.is_grad_enabled()} {self.training}\n")
        return dropout(self, inputs)

    class Noting(loop.TrainingLoop):
        def run(self, checkpoint: Path | None) -> bool:
            torch.nn.Dropout.forward = noting
            return super().run(checkpoint)

    loop.TrainingLoop = Noting


def test_dropout_acts_in_every_step_and_in_no_evaluation_or_sample(tiny, gpt2_config, tmp_path):
    argv = flags(tiny | {"output_dir": tmp_path / "run", "model_config": gpt2_config, "sample_every": 0})
    end = run(argv, before=partial(note_modes, tmp_path / "modes"))
    assert end.code == 0, end.stderr
    assert set((tmp_path / "modes").read_text().splitlines()) == {"True True", "False False"}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "compiled"), [(1, "false"), (2, "false"), (1, "true")])
def test_resumed_with_dropout_is_the_undisturbed_run(tiny, gpt2_config, tmp_path, processes, compiled):
    dropout = tiny | {"model_config": gpt2_config, "compile": compiled, "keep_checkpoints": 0, "log_every": 1}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run(flags(dropout | {"output_dir": whole}), processes).code == 0
    shutil.copytree(whole, resumed)
    (resumed / "config.json").unlink()
    for path in whole_checkpoints(resumed)[1:]:
        shutil.rmtree(path)
    end = run(flags(dropout | {"output_dir": resumed}), processes)
    assert end.code == 0 and "step_000002, step 2" in end.stdout
    assert_same_run(resumed, whole)


def test_frozen_parameters_stay_as_they_are_and_the_rest_learns(tiny, gpt2_config, tmp_path):
    argv = flags(tiny | {"output_dir": tmp_path, "model_config": gpt2_config, "freeze": r"attn\.c_attn\.bias"})
    end = run(argv)
    assert end.code == 0, end.stderr
    assert "frozen       96 of them, in 1 tensors (transformer.h.0.attn.c_attn.bias): " in end.stdout
    attention = GPT2LMHeadModel.from_pretrained(tmp_path).transformer.h[0].attn
    assert not attention.c_attn.bias.any() and attention.c_proj.bias.any()
    losses = [record["train/loss"] for record in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in record]
    assert losses[-1] < losses[0]
