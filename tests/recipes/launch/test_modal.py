"""The app that Modal is asked to run, built by its own package against a Modal on this machine."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from recipes.launch import modal_app
from recipes.launch.modal_app import Committer, build_image, find_secrets, last_finished, newest_run, requirements
from recipes.launch.modal_arguments import GPUS, HOURS, MACHINES, PRESETS, check_gpu, read_modal_line
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.cloud.server import serve
from tests.recipes.launch.test_hub_run import save
from tests.recipes.processes import flags

FILE = "recipes/launch/modal_app.py"
GPU = ["--config", str(ROOT / "recipes" / "configs" / "pretrain" / "gpu.yaml"), "--depth", "20"]


def modal_run(url: str, home, *words: str) -> subprocess.CompletedProcess:
    """`modal run` as a user of that Modal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODAL_", "HF_TOKEN", "WANDB"))}
    mine = {"MODAL_SERVER_URL": url, "HOME": str(home), "PYTHONPATH": os.pathsep.join(["", str(ROOT), *sys.path])}
    token = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"} if url else {}
    command = [sys.executable, "-m", "modal", "run", *words]
    return subprocess.run(command, cwd=ROOT, env=kept | mine | token, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    """What Modal was asked by `modal run ...::pretrain`, and how that ended."""
    with serve() as modal:
        home = tmp_path_factory.mktemp("home")
        end = modal_run(modal.url, home, f"{FILE}::pretrain", "--run", "d20", "--gpu", "h100:4", "--", *GPU)
    assert end.returncode == 0, end.stdout + end.stderr
    return modal


@pytest.mark.slow
@pytest.mark.launch
class TestPretraining:
    def test_it_runs_on_the_gpus_asked_for(self, pretraining):
        assert pretraining.called == [("pretrain_step", ("d20", GPU))]
        functions = {each.function.function_name: each.function for each in pretraining.requests("FunctionCreate")}
        gpu = functions["pretrain_step"].resources.gpu_config
        assert (gpu.gpu_type, gpu.count) == ("H100", 4)

    def test_every_function_has_a_time_limit_and_the_volumes(self, pretraining):
        functions = {each.function.function_name: each.function for each in pretraining.requests("FunctionCreate")}
        assert len(functions) == len(HOURS)
        for name, hours in HOURS.items():
            function = functions["page" if name == "page" else f"{name}_step"]
            assert function.timeout_secs == 3600 * hours, name
            assert {each.mount_path for each in function.volume_mounts} == {"/data", "/nanochat/runs"}
            assert bool(function.resources.gpu_config.count) == (MACHINES[name] is not None)
        assert functions["page"].webhook_config.web_server_port == 7860
        volumes = {each.deployment_name for each in pretraining.requests("VolumeGetOrCreate")}
        assert volumes == {"nanochat-data", "nanochat-runs"}

    def test_the_image_holds_our_pins(self, pretraining):
        lines = [line for each in pretraining.requests("ImageGetOrCreate") for line in each.image.dockerfile_commands]
        (install,) = [line for line in lines if "uv pip install" in line]
        assert "-c /pins/constraints.txt" in install and all(f"'{each}'" in install for each in requirements())
        assert "WORKDIR /nanochat" in lines and "ENV PYTHONPATH=/nanochat" in lines
        (base,) = [line for line in lines if line.startswith("FROM python")]
        assert base.startswith("FROM python:3.12")


@pytest.mark.slow
@pytest.mark.launch
def test_the_pipeline_runs_every_stage_and_stops_at_one_that_fails(tmp_path):
    with serve() as modal:
        modal.codes = [0, 0, 2]
        end = modal_run(modal.url, tmp_path, f"{FILE}::main", "--run", "small", "--preset", "quick")
        assert end.returncode == 2
        stopped = [name for name, _ in modal.called]
    assert stopped == ["tokenizer_step", "pretrain_step", "midtrain_step"]
    (gpu,) = {
        (each.function.resources.gpu_config.gpu_type, each.function.resources.gpu_config.count)
        for each in modal.requests("FunctionCreate")
        if each.function.function_name in ("pretrain_step", "sft_step", "report_step")
    }
    assert gpu == ("L4", 1)


@pytest.mark.slow
@pytest.mark.launch
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([f"{FILE}::pretrain", "--gpu", "H10O:8", "--", *GPU], 2, "modal: unknown GPU 'H10O': did you mean H100?\n"),
        ([f"{FILE}::pretrain", "--", *GPU], 1, "Error: Token missing."),
    ],
)
def test_modal_is_not_asked_before_the_command_is_right(tmp_path, words, code, said):
    end = modal_run("", tmp_path, *words)
    assert end.returncode == code
    assert (end.stderr if code == 2 else end.stdout + end.stderr).replace("\n ", " ").startswith(said)


@pytest.mark.slow
@pytest.mark.launch
def test_a_dry_run_needs_no_account(tmp_path):
    end = modal_run("", tmp_path, f"{FILE}::main", "--preset", "gpt2", "--price_per_hour", "32", "--dry_run")
    assert end.returncode == 0, end.stderr
    lines = end.stdout.splitlines()
    assert lines[0] == "dry run: nothing is started"
    for name in ("download", "tokenizer", "pretrain", "midtrain", "sft", "grpo", "report"):
        assert any(line.startswith(name) for line in lines), name
    (hours,) = [line for line in lines if "estimate: about" in line and "h on 8 x H100" in line]
    (cost,) = [line for line in lines if "estimate: about $" in line]
    assert abs(float(cost.split("$")[1].split()[0]) - 32 * float(hours.split()[2])) < 1


def complaint(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read_modal_line(["modal", "run", *words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"{FILE}::pretran"], "modal: unknown stage 'pretran': did you mean pretrain?"),
        ([f"{FILE}::pretrain", "--gpu", "H100:80"], "modal: gpu 'H100:80': give 1 to 8 of them, as H100:8."),
        ([f"{FILE}::pretrain", "--gpu", "H100:x"], "modal: gpu 'H100:x': give 1 to 8 of them, as H100:8."),
        ([f"{FILE}::pretrain", "--rum", "x"], "modal: unknown argument rum: did you mean run?"),
        ([f"{FILE}::pretrain", "--run", "a/b"], "modal: run 'a/b' is not a name: give letters, digits, '-' and '_'."),
        ([f"{FILE}::pretrain", "--", "--dept", "1"], "modal: pretrain: unknown argument dept: did you mean depth?"),
        ([f"{FILE}::pretrain", "--", "--output_dir", "x"], "modal: leave --output_dir out: the launcher puts"),
        ([f"{FILE}::main", "--preset", "gpt3"], "modal: preset must be one of quick, speedrun, gpt2, not 'gpt3'."),
        ([f"{FILE}::main", "--", "--depth", "3"], "modal: main takes no flags of stages: give them to one, as"),
    ],
)
def test_a_wrong_command_is_one_line(capsys, words, said):
    assert complaint(capsys, *words).startswith(said)


def test_other_commands_of_modal_are_left_alone():
    assert read_modal_line(["modal", "serve", FILE]) is None
    assert read_modal_line(["pytest", "-x"]) is None


def test_gpus_are_written_as_modal_writes_them():
    assert {name: check_gpu(name) for name in GPUS} == {name: f"{name}:1" for name in GPUS}
    assert check_gpu("h100:2") == "H100:2"
    for gpu in [*MACHINES.values(), *(each.gpu for each in PRESETS.values())]:
        assert gpu is None or check_gpu(gpu) == gpu
    with pytest.raises(InputError, match="did you mean L40S"):
        check_gpu("L4OS")


def test_secrets_are_optional_and_given_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(modal_app, "ROOT", tmp_path)
    for name in ("MODAL_SECRET", "HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert find_secrets() == []
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODAL_SECRET", "mine")
    (tmp_path / ".env").write_text("WANDB_API_KEY=x\n")
    shown = " ".join(map(repr, find_secrets()))
    assert "mine" in shown and len(find_secrets()) == 3 and "hf_secret" not in shown


def test_an_image_is_built_without_an_account():
    assert type(build_image()).__name__ == "Image"


class Volume:
    """Counts commits; the first ones may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.commits, self.failures = 0, failures

    def commit(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no space\nleft")
        self.commits += 1

    def reload(self) -> None:
        pass


def test_a_volume_is_committed_when_a_checkpoint_is_complete(tmp_path, capsys):
    save(tmp_path, 2)
    volume = Volume()
    committer = Committer(volume, tmp_path)
    committer.look()
    assert volume.commits == 0, "it was there before"
    for step in (4, 6):
        save(tmp_path, step)
        committer.look()
        committer.look()
    assert volume.commits == 2
    assert capsys.readouterr().out == "committed base/step_000004\ncommitted base/step_000006\n"


def test_a_full_volume_is_one_line_and_tried_again(tmp_path, capsys):
    committer = Committer(Volume(failures=2), tmp_path)
    save(tmp_path, 2)
    committer.look()
    committer.look()
    committer.look()
    assert capsys.readouterr().out == "not committed yet: no space left\ncommitted base/step_000002\n"


def test_the_page_takes_the_last_model_of_the_newest_run(tmp_path):
    for run, stages in (("a", ("base", "mid")), ("b", ("base", "mid", "sft")), ("empty", ())):
        for stage in stages:
            (tmp_path / run / stage).mkdir(parents=True)
            (tmp_path / run / stage / "config.json").write_text("{}")
        (tmp_path / run).mkdir(exist_ok=True)
    os.utime(tmp_path / "a" / "mid", (1, 1))
    assert last_finished(newest_run(tmp_path)) == tmp_path / "b" / "sft"
    with pytest.raises(FileNotFoundError, match="holds no finished model"):
        last_finished(tmp_path / "empty")


# What runs in a container


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A directory with the code that the image holds, and the app where Modal puts it."""
    for name in modal_app.CODE:
        (tmp_path / "nanochat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "nanochat" / name).symlink_to(ROOT / name)
    (tmp_path / "root").mkdir()
    shutil.copy(ROOT / FILE, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "nanochat")
    return tmp_path


@pytest.mark.slow
@pytest.mark.launch
def test_a_container_imports_the_app_from_the_code_alone(container):
    """As Modal does: not local (which its private singleton says), by the file alone."""
    program = (
        "from modal._runtime.execution_context import _TaskLifecycleManager as manager\n"
        "manager._singleton = object()\n"
        "import modal, modal_app\n"
        "assert not modal.is_local() and modal_app.LAUNCH is None and modal_app.COMMON['image'] is None\n"
    )
    installed = [path for path in sys.path if path and path != str(ROOT)]
    path = os.pathsep.join([str(container / "root"), str(container / "nanochat"), *installed])
    end = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert end.returncode == 0, end.stderr


@pytest.mark.slow
@pytest.mark.launch
def test_a_stage_is_resumed_from_what_was_committed(container, tiny, tmp_path, monkeypatch, capfd):
    empty = tmp_path / "empty.yaml"
    empty.write_text("log_every: 1\n")
    volume = Volume()
    monkeypatch.setattr(modal_app, "runs", volume)
    monkeypatch.setattr(modal_app, "data", Volume())
    for name, value in {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    long = flags(tiny | {"num_iterations": 60, "save_every": 20, "eval_every": -1, "config": empty})

    def look_and_stop() -> None:
        """Stops the stage when its first checkpoint has been committed."""
        before = volume.commits
        committer.look()
        if not before and volume.commits:
            os.kill(os.getpid(), signal.SIGTERM)

    committer = Committer(volume, container / "nanochat" / "runs" / "small")
    command = modal_app.start_command(
        "pretrain", modal_app.place_flags("pretrain", long, modal_app.run_directory("small")), 0
    )
    monkeypatch.setattr("recipes.launch.watch.SECONDS_BETWEEN_LOOKS", 0.05)
    assert modal_app.run_watched(command, look_and_stop) == 0
    assert "stopped by a signal" in capfd.readouterr().out
    assert modal_app.run_stage("pretrain", "small", long) == 0
    assert "resuming from runs/small/base/checkpoints/step_" in capfd.readouterr().out
    assert (container / "nanochat" / "runs" / "small" / "base" / "config.json").exists() and volume.commits >= 2
    assert modal_app.run_stage("pretrain", "small", [*long, "--depth", "0"]) == 2
    assert "pretrain: depth must be at least 1" in capfd.readouterr().err
