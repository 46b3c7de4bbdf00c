"""Provenance of a stage: the command, the machine and the versions, saved beside its results.

The records may be published with the model, so they hold no environment variables, no names of people or machines, and
no secrets.
"""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from recipes.utils import atomic
from recipes.utils.run_directory import LAUNCHES

LIBRARIES = ("torch", "transformers", "accelerate", "trl", "datasets")
ROOT = Path(__file__).parents[2]
SECRET_FLAG = re.compile(r"--(?!(eos|pad|bos)_)\w*(token|key|password|secret)")
SECRET = re.compile(r"\b(hf|sk|wandb|gh[a-z]|github_pat)[_-][\w-]{16,}|(?<=://)[^/@\s]+(?=@)")


def record_launch(output_dir: str | Path, **facts: Any) -> None:
    """Append this launch to `output_dir`/launches.json, with `facts` (precision, data, ...); main process only.

    A failure is printed and does not end the training.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return
    path = Path(output_dir, LAUNCHES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        launches = [*read_launches(path), describe_launch(**facts)]
        atomic.write_text(path, json.dumps(launches, indent=2, ensure_ascii=False) + "\n")
    except Exception as error:
        print(f"this launch could not be recorded in {path}: {error}", file=sys.stderr)


def read_launches(path: Path) -> list[dict[str, Any]]:
    """The recorded launches; none if the file is missing or damaged."""
    try:
        launches = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [launch for launch in launches if _is_launch(launch)] if isinstance(launches, list) else []


def _is_launch(launch: Any) -> bool:
    """Whether an entry has the structure that `describe_launch` writes."""
    parts = ("hardware", "versions", "git")
    return isinstance(launch, dict) and all(isinstance(launch.get(part) or {}, dict) for part in parts)


def describe_launch(**facts: Any) -> dict[str, Any]:
    """This process's command, machine and software, and `facts`; text is made `portable`."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **{name: portable(value) if isinstance(value, str) else value for name, value in facts.items()},
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "git": describe_checkout(),
    }


def command_line() -> str:
    """The command as typed in the project's directory: launcher, script and flags, without secrets."""
    # With `python -m` the module's name is in its spec, and argv has the file; a script has no spec.
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec is not None else None
    words = [portable(word) for word in hide_secrets(sys.argv[1:])]
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) == 1:
        start = ["python", "-m", module] if module else ["python", portable(sys.argv[0])]
        return join([*start, *words])
    launch = ["accelerate", "launch", "--num_processes", str(processes)]
    machines = processes // int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
    launch += ["--num_machines", str(machines)] if machines > 1 else []
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes"):
        launch += ["--use_fsdp", "--fsdp_version", os.environ.get("FSDP_VERSION", "1")]
    launch += ["--cpu"] if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") else []
    return join([*launch, *(["-m", module] if module else [portable(sys.argv[0])]), *words])


def hide_secrets(words: Sequence[str]) -> list[str]:
    """Flags with the values of passwords and access tokens (`--hub_token`) replaced by ***."""
    hidden, secret_follows = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        is_secret = SECRET_FLAG.fullmatch(name) is not None
        if secret_follows and not word.startswith("--"):
            word = "***"
        elif is_secret and equals:
            word = f"{name}=***"
        hidden.append(SECRET.sub("***", word))
        secret_follows = is_secret and not equals
    return hidden


def portable(text: str) -> str:
    """`text` with paths below the working directory, the project or the home directory made relative to it."""
    for directory, short in ((Path.cwd(), ""), (ROOT, ""), (Path.home(), "~/")):
        if text == str(directory):
            return short.rstrip("/") or "."
        if directory != Path(directory.anchor):
            text = re.sub(rf"(?<![\w./-]){re.escape(str(directory))}/", short, text)
    return text


def join(words: Sequence[str]) -> str:
    """As `shlex.join`, but ~ stays outside of quotes, so that shells expand it."""
    return " ".join(f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word) for word in words)


def describe_hardware() -> dict[str, Any]:
    """CPU, cores that this process may use, memory in GB, names of its GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    memory = round(psutil.virtual_memory().total / 1e9)
    return {"cpu": cpu_name(), "cores": cores, "memory_gb": memory, "gpus": gpus}


def cpu_name() -> str:
    """Model of the CPU on Linux, its family elsewhere."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def describe_versions() -> dict[str, str]:
    """Versions of Python and the main libraries."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def describe_checkout() -> dict[str, Any] | None:
    """The project's commit, and whether files differ from it; None if the project is not a git checkout."""
    try:
        top = git("rev-parse", "--show-toplevel")
        if Path(top).resolve() != ROOT.resolve():  # installed within another repository
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def git(*words: str) -> str:
    """Output of a git command in the project's directory."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
