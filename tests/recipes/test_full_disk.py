"""Every program makes sure of its output before it works, and a disk that fills up in the middle is one line."""

import resource
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from recipes.training.checkpoint_files import whole_checkpoints
from recipes.training.tracking import MetricsLog
from recipes.utils.errors import InputError, writing
from tests.recipes.processes import flags, run
from tests.recipes.test_exactness import assert_same_run
from tests.recipes.test_pretrain import limit

pytestmark = pytest.mark.launch

NOWHERE = "./nowhere"  # what a program would complain of if it looked at its input first


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # runs again as a program what tests have imported
@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("tokenizer.train", ["--dataset", NOWHERE, "--output_dir"]),
        ("tokenizer.evaluate", ["--tokenizer", "TOKENIZER", "--dataset", NOWHERE, "--output_dir"]),
        ("recipes.data.fetch", ["--dataset", "user/name", "--shards", "1", "--output_dir"]),
        ("recipes.data.prepare", ["--dataset", NOWHERE, "--tokenizer", NOWHERE, "--output_dir"]),
        ("recipes.pretrain", ["--tokenizer", NOWHERE, "--output_dir"]),
        ("recipes.midtrain", ["--source", NOWHERE, "--conversations", NOWHERE, "--output_dir"]),
        ("recipes.sft", ["--source", NOWHERE, "--output_dir"]),
        ("recipes.dpo", ["--source", NOWHERE, "--output_dir"]),
        ("recipes.grpo", ["--source", NOWHERE, "--output_dir"]),
        ("recipes.convert", ["--source", NOWHERE, "--to", "ours", "--output_dir"]),
        ("recipes.speedrun", ["--preset", "cpu", "--run_dir"]),
        ("evals.chat", ["--model", NOWHERE, "--output"]),
        ("evals.samples", ["--model", NOWHERE, "--output"]),
        ("evals.core.fetch", ["--source", NOWHERE, "--bundle"]),
    ],
)
def test_a_program_looks_at_its_output_first(
    module, argv, tokenizer_dir, tmp_path, monkeypatch, capsys, fresh_accelerate
):
    (tmp_path / "file").touch()
    argv = [str(tokenizer_dir) if word == "TOKENIZER" else word for word in argv]
    monkeypatch.setattr(sys, "argv", [module, *argv, str(tmp_path / "file" / "below" / "it")])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 2
    complaint = capsys.readouterr().err
    program = module.removeprefix("recipes.")
    assert complaint.startswith(f"{program}: cannot write to ") and "Not a directory" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("module", ["evals.chat", "evals.samples"])
def test_results_do_not_take_the_place_of_a_device(module, tmp_path, monkeypatch, capsys, fresh_accelerate):
    monkeypatch.setattr(sys, "argv", [module, "--model", NOWHERE, "--output", "/dev/null"])
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert "cannot write to /dev/null, which is not a file: choose another --output." in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_record_that_finds_no_room_is_told():
    log = MetricsLog(Path("/dev/full"))
    with (
        pytest.raises(InputError, match=r"^could not write /dev/full \(No space left on device\); a is intact\. Make"),
        writing(log.path, lambda: "a is intact"),
    ):
        log.write({"step": 1})


@pytest.fixture(scope="module")
def stages(student, sums, pairs) -> dict[str, dict]:
    """Arguments of short runs with checkpoints on the way."""
    steps = {"source": student, "logging_steps": 1, "init_lr_frac": 0.5}
    return {
        "sft": steps | {"conversations": sums, "per_device_train_batch_size": 16, "eval_steps": 5, "save_steps": 5},
        "dpo": steps | {"preferences": pairs, "per_device_train_batch_size": 16, "eval_steps": 5, "save_steps": 5},
        "grpo": steps | {"max_completion_length": 4, "max_steps": 4, "save_steps": 2, "pass_every": -1}
        | {"num_generations": 4, "per_device_train_batch_size": 16, "max_problems": 32},
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_a_disk_full_in_the_middle_loses_nothing_and_the_rerun_goes_on(stages, tmp_path, stage):
    argv = flags(stages[stage] | {"output_dir": tmp_path / "run"})
    assert run(argv, script=stage).code == 0
    shutil.copytree(tmp_path / "run", tmp_path / "undisturbed")
    (tmp_path / "run" / "config.json").unlink()
    older, newest = whole_checkpoints(tmp_path / "run")[-2:]
    shutil.rmtree(newest)

    full = run(argv, before=partial(limit, resource.RLIMIT_FSIZE, 2**18), script=stage)
    assert full.code == 2
    expected = (
        f"{stage}: could not write to {tmp_path / 'run'} (File too large); {older} is intact. Make room on the disk"
    )
    assert full.stderr.splitlines()[-1].startswith(expected)
    assert whole_checkpoints(tmp_path / "run")[-1] == older and not newest.exists(), "what is half-written makes room"
    assert run(argv, script=stage).code == 0
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


def test_a_chart_that_cannot_be_drawn_costs_no_model(stages, tmp_path):
    (tmp_path / "loss.png").mkdir()
    end = run(flags(stages["sft"] | {"output_dir": tmp_path, "max_steps": 1}), script="sft")
    assert end.code == 0 and f"could not draw {tmp_path / 'loss.png'}" in end.stdout
    assert (tmp_path / "model.safetensors").exists()
