"""Stages on Modal: `modal run recipes/launch/modal_app.py::pretrain --run d20 -- --depth 20`, from the project's root.

One function a stage with GPUs and a time limit of its own, an image of the tested packages, and two volumes:
downloads, and runs, which are committed as checkpoints appear. `::main --run NAME --preset speedrun` trains all
stages, each on the machine it needs. `modal serve recipes/launch/modal_app.py` serves the chat page.

The same command goes on where a run ended. `--dry_run` shows what would be started, without an account.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import modal
import torch

from recipes.launch.modal_arguments import DOWNLOADS, HOURS, MACHINES, PRESETS, read_modal_line
from recipes.launch.stages import place_flags, run_directory, start_command
from recipes.launch.watch import newest_checkpoints_of, run_watched
from recipes.utils.errors import in_one_line
from recipes.utils.provenance import ROOT
from recipes.utils.run_directory import STAGES, is_finished

HOUR = 3600  # seconds
PORT = 7860
EXTRAS = ("peft", "tracking", "space")
CODE = ("modeling_nanochat", "tokenizer", "recipes", "evals", "space", "accelerate_configs")
THERE = "/nanochat"  # the project, in a container

# modal run would first log in, upload and build: a mistake, or --dry_run, ends it here.
LAUNCH = read_modal_line(sys.argv) if modal.is_local() else None


def requirements() -> list[str]:
    """What pyproject.toml asks for, of the project and some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(each for name in EXTRAS for each in project["optional-dependencies"][name])]


def build_image() -> modal.Image:
    """The tested packages, and this checkout's code as it is now."""
    image = (
        modal.Image.debian_slim(python_version="3.12")
        .apt_install("git")
        .add_local_file(ROOT / "constraints.txt", "/pins/constraints.txt", copy=True)
        .uv_pip_install(*requirements(), extra_options="-c /pins/constraints.txt")
        .env({"PYTHONPATH": THERE, "HF_HOME": "/data/huggingface"})
        .workdir(THERE)
    )
    for name in CODE:
        image = image.add_local_dir(ROOT / name, f"{THERE}/{name}", ignore=["**/__pycache__"])
    return image


def find_secrets() -> list[modal.Secret]:
    """Those of .env, of Modal's own by the name in MODAL_SECRET, and tokens that are set here; none is fine."""
    named = os.environ.get("MODAL_SECRET")
    tokens = [name for name in ("HF_TOKEN", "WANDB_API_KEY") if os.environ.get(name)]
    return [
        *([modal.Secret.from_dotenv(ROOT)] if (ROOT / ".env").is_file() else []),
        *([modal.Secret.from_name(named)] if named else []),
        *([modal.Secret.from_local_environ(tokens)] if tokens else []),
    ]


app = modal.App("nanochat")
data = modal.Volume.from_name("nanochat-data", create_if_missing=True)
runs = modal.Volume.from_name("nanochat-runs", create_if_missing=True)
COMMON = {
    "image": build_image() if modal.is_local() else None,
    "volumes": {"/data": data, f"{THERE}/runs": runs},
    "secrets": find_secrets() if modal.is_local() else [],
}


def settings(name: str) -> dict:
    """Modal's settings of a step's function: its GPUs, which --gpu may change, and its time limit."""
    gpu = LAUNCH[0].gpu_of(name) if LAUNCH else MACHINES[name]
    return {**COMMON, "gpu": gpu, "cpu": 8.0 if gpu is None else None, "timeout": HOURS[name] * HOUR}


class Committer:
    """Commits the volume of runs whenever a checkpoint is complete."""

    def __init__(self, volume: modal.Volume, run_dir: Path) -> None:
        self.volume, self.run_dir, self.committed = volume, run_dir, newest_checkpoints_of(run_dir)
        self.trouble = ""

    def look(self) -> None:
        """A failure is said once, in one line, and tried again at the next look."""
        newest = newest_checkpoints_of(self.run_dir)
        if newest != self.committed:
            try:
                self.volume.commit()
            except Exception as error:  # of Modal's client, of any kind: training must not end by it
                if (said := in_one_line(error)) != self.trouble:
                    print(f"not committed yet: {said}", flush=True)
                self.trouble = said
                return
            self.committed = newest
            print(f"committed {', '.join(f'{path.parents[1].name}/{path.name}' for path in newest)}", flush=True)


def run_stage(name: str, run: str, flags: Sequence[str]) -> int:
    """In a container: the stage's exit code, after what it wrote is in the volume."""
    runs.reload()
    run_dir = run_directory(run)
    committer = Committer(runs, run_dir)
    command = start_command(name, place_flags(name, flags, run_dir), torch.cuda.device_count())
    try:
        return run_watched(command, committer.look)
    finally:
        runs.commit()
        data.commit()


@app.function(**settings("download"))
def download_step(names: Sequence[str]) -> None:
    """Datasets into the cache that all stages share, on a machine without GPUs."""
    from huggingface_hub import snapshot_download

    for name in names:
        repo, _, pattern = name.partition(":")
        snapshot_download(repo, repo_type="dataset", allow_patterns=pattern or None)
        data.commit()


@app.function(**settings("tokenizer"))
def tokenizer_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("tokenizer", run, flags)


@app.function(**settings("pretrain"))
def pretrain_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("pretrain", run, flags)


@app.function(**settings("midtrain"))
def midtrain_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("midtrain", run, flags)


@app.function(**settings("sft"))
def sft_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("sft", run, flags)


@app.function(**settings("dpo"))
def dpo_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("dpo", run, flags)


@app.function(**settings("grpo"))
def grpo_step(run: str, flags: Sequence[str]) -> int:
    return run_stage("grpo", run, flags)


@app.function(**settings("report"))
def report_step(run: str, tasks: str) -> int:
    """Questions to the last model, then the run's report."""
    runs.reload()
    run_dir = run_directory(run)
    model = last_finished(run_dir)
    python = [sys.executable, "-m"]
    for words in (["evals.chat", "--model", str(model), "--tasks", tasks], ["evals.report", "--run", str(run_dir)]):
        if code := subprocess.call([*python, *words]):
            break
    runs.commit()
    return code


@app.function(**settings("page"), max_containers=1, scaledown_window=300, env={"RUN": os.environ.get("RUN")})
@modal.concurrent(max_inputs=100)
@modal.web_server(PORT, startup_timeout=600)
def page() -> None:
    """The chat page of the run that RUN names, or of the run whose model is newest."""
    model = last_finished(run_directory(os.environ["RUN"]) if os.environ.get("RUN") else newest_run(Path("runs")))
    command = [sys.executable, "space/app.py", "--model", str(model), "--port", str(PORT)]
    subprocess.Popen(command, env=os.environ | {"GRADIO_SERVER_NAME": "0.0.0.0"})


def last_finished(run_dir: Path) -> Path:
    """The directory of the last stage that is finished."""
    finished = [run_dir / name for name in STAGES if is_finished(run_dir / name)]
    if not finished:
        raise FileNotFoundError(f"{run_dir} holds no finished model")
    return finished[-1]


def newest_run(directory: Path) -> Path:
    """The run whose last stage was finished last."""
    found = [path for path in directory.iterdir() if any(is_finished(path / name) for name in STAGES)]
    return max(found, key=lambda path: last_finished(path).stat().st_mtime)


STEPS = {
    "tokenizer": tokenizer_step,
    "pretrain": pretrain_step,
    "midtrain": midtrain_step,
    "sft": sft_step,
    "dpo": dpo_step,
    "grpo": grpo_step,
}


def call(step: modal.Function, *arguments: str | Sequence[str]) -> None:
    """Run a step to its end; if that is a bad one, it is ours as well."""
    if code := step.remote(*arguments):
        sys.exit(code)


def start(name: str) -> None:
    """Run one stage."""
    args, flags = LAUNCH
    call(STEPS[name], args.run, flags)


# Every name below is one of `modal run recipes/launch/modal_app.py::NAME`. Their words were read at the top.


@app.local_entrypoint()
def tokenizer(*words: str) -> None:
    start("tokenizer")


@app.local_entrypoint()
def pretrain(*words: str) -> None:
    start("pretrain")


@app.local_entrypoint()
def midtrain(*words: str) -> None:
    start("midtrain")


@app.local_entrypoint()
def sft(*words: str) -> None:
    start("sft")


@app.local_entrypoint()
def dpo(*words: str) -> None:
    start("dpo")


@app.local_entrypoint()
def grpo(*words: str) -> None:
    start("grpo")


@app.local_entrypoint()
def download(*words: str) -> None:
    download_step.remote(DOWNLOADS)


@app.local_entrypoint()
def main(*words: str) -> None:
    """All stages; those that are finished say so and end at once."""
    args, _ = LAUNCH
    preset = PRESETS[args.preset]
    if preset.downloads:
        download_step.remote(preset.downloads)
    for name, flags in preset.flags.items():
        call(STEPS[name], args.run, flags)
    call(report_step, args.run, preset.tasks)
    print(f"look at it: modal volume get nanochat-runs {args.run}/report.html")
    print(f"talk to it: RUN={args.run} modal serve recipes/launch/modal_app.py")
