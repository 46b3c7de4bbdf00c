"""A checkpoint or a model that was damaged on disk is one line that says which file, and how to go on."""

import json
import shutil
from pathlib import Path

import pytest

from recipes.training.checkpoint_files import whole_checkpoints
from tests.recipes.processes import Finished, flags, run
from tests.recipes.test_exactness import assert_same_run
from tests.recipes.training.test_checkpoint_files import empty, flip, halve, remove

pytestmark = pytest.mark.launch


@pytest.fixture(scope="module")
def stages(tiny, student, sums, pairs) -> dict[str, dict]:
    """Arguments of each, but the output directory."""
    batch = {"max_seq_len": 64, "device_batch_size": 8, "total_batch_size": 2048, "compile": "false"}
    steps = {"per_device_train_batch_size": 16, "init_lr_frac": 0.5, "logging_steps": 1}
    return {
        "pretrain": tiny,
        "midtrain": batch | {"source": student, "conversations": sums, "num_iterations": 4, "save_every": 2},
        "sft": steps | {"source": student, "conversations": sums, "eval_steps": 5, "save_steps": 5},
        "dpo": steps | {"source": student, "preferences": pairs, "max_steps": 1},
        "grpo": steps | {"source": student, "max_problems": 16, "max_steps": 1, "max_completion_length": 4},
    }


@pytest.fixture(scope="module")
def finished(stages, tmp_path_factory) -> dict[str, Path]:
    """Runs that nobody disturbed."""
    directories = {}
    for stage in ("pretrain", "sft"):
        directories[stage] = tmp_path_factory.mktemp(stage)
        assert run(flags(stages[stage] | {"output_dir": directories[stage]}), script=stage).code == 0
    return directories


def complaint(end: Finished) -> str:
    """The one line that a command ended with."""
    assert end.code == 2, end.stderr
    (line,) = end.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("stage", "file", "spoil"),
    [
        ("pretrain", "model.safetensors", halve),
        ("pretrain", "optimizer.bin", empty),
        ("pretrain", "training_state.json", halve),
        ("pretrain", "training_state.json", remove),
        ("pretrain", "data_00000.pt", flip),
        ("pretrain", "random_states_0.pkl", remove),
        ("sft", "model.safetensors", flip),
        ("sft", "optimizer.pt", remove),
        ("sft", "rng_state.pth", remove),
        ("sft", "trainer_state.json", halve),
    ],
)
def test_the_damaged_file_is_named_and_the_remedy_gives_the_undisturbed_run(
    stages, finished, tmp_path, stage, file, spoil
):
    shutil.copytree(finished[stage], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").unlink()  # not finished after all
    *_, before, newest = whole_checkpoints(tmp_path)
    damage = spoil(newest / file)
    argv = flags(stages[stage] | {"output_dir": tmp_path})

    line = complaint(run(argv, script=stage))
    assert line.startswith(f"{stage}: checkpoint {newest} is damaged: {damage}")
    assert line.endswith(f"The one before it, {before.name}, is whole: resume from it by --resume {before}")
    end = run([*argv, *line.split()[-2:]], script=stage)
    assert end.code == 0, end.stderr
    assert_same_run(tmp_path, finished[stage])
    assert (tmp_path / "checkpoints" / f"abandoned_{newest.name}").is_dir()


@pytest.mark.parametrize("stage", ["midtrain", "dpo", "grpo"])
def test_other_stages_say_it_too(stages, finished, tmp_path, stage):
    theirs = finished["pretrain" if stage == "midtrain" else "sft"]
    shutil.copytree(theirs / "checkpoints", tmp_path / "checkpoints")
    newest = whole_checkpoints(tmp_path)[-1]
    damage = halve(newest / "model.safetensors")
    end = run(flags(stages[stage] | {"output_dir": tmp_path}), script=stage)
    assert f"checkpoint {newest} is damaged: {damage}" in complaint(end)


# Models


@pytest.mark.parametrize("spoil", [halve, empty])
@pytest.mark.parametrize("stage", ["pretrain", "midtrain", "sft", "dpo", "grpo"])
def test_a_model_with_damaged_weights_is_named_before_the_work(stages, student, tmp_path, stage, spoil):
    shutil.copytree(student, tmp_path / "model")
    spoil(tmp_path / "model" / "model.safetensors")
    name = "model_name_or_path" if stage == "pretrain" else "source"
    arguments = stages[stage] | {name: tmp_path / "model", "output_dir": tmp_path / "run"}
    line = complaint(run(flags(arguments), script=stage))
    assert line.startswith(f"{stage}: model {tmp_path / 'model'} is damaged: model.safetensors is not whole (")


def test_a_model_without_its_weights_is_told(stages, student, tmp_path):
    shutil.copytree(student, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    for stage in ("midtrain", "sft"):
        arguments = stages[stage] | {"source": tmp_path / "model", "output_dir": tmp_path / stage}
        assert f"{tmp_path / 'model'} cannot be loaded: " in complaint(run(flags(arguments), script=stage))


@pytest.mark.parametrize("name", ["arguments.json", "inputs.json"])
def test_a_damaged_record_of_the_run_is_named(stages, finished, tmp_path, name):
    shutil.copytree(finished["pretrain"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").unlink()
    (tmp_path / name).write_text((tmp_path / name).read_text()[:-10])
    argv = flags(stages["pretrain"] | {"output_dir": tmp_path})
    assert f"{tmp_path / name} is damaged" in complaint(run(argv))
    (tmp_path / name).unlink()
    assert run(argv).code == 0
    assert json.loads((tmp_path / name).read_text())
