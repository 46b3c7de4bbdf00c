"""Get a bundle of CORE's tasks: `python -m evals.core.fetch --bundle DIR`. Nothing else downloads one.

The source is an archive at a URL, a dataset of the Hub, or a local archive or directory. It may be any that has files
with the paths of core.yaml (such as `world_knowledge/arc_easy.jsonl`) at any depth.
"""

import os
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, writing

NANOCHATS = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"  # about 160 MB


@dataclass
class FetchArguments(Arguments):
    """Flags of `python -m evals.core.fetch`."""

    bundle: str = flag(REQUIRED, "directory to put the tasks into", path=True)
    source: str = flag(
        NANOCHATS, "URL of a .zip or .tar.gz, id of a dataset of the Hub, or a local archive or directory", path=True
    )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.core.fetch", FetchArguments)

from evals.core.bundle import DEFINITIONS, CoreTask, core_tasks, read_examples
from recipes.utils import atomic
from recipes.utils.hub import check_hub_reachable
from recipes.utils.outputs import ensure_writable

TIMEOUT_SECONDS = 30  # without receiving a byte


def fetch(args: FetchArguments) -> None:
    """Copy the tasks that are found into the bundle, checked, and print which are missing."""
    bundle = Path(args.bundle)
    if os.path.isfile(bundle):
        raise InputError(f"{bundle} is a file: choose another --bundle.")
    ensure_writable(bundle if os.path.exists(bundle) else bundle.parent, f"--bundle {bundle}")
    with tempfile.TemporaryDirectory(prefix=".core.", dir=bundle.parent) as beside:
        unpacked = unpack(args.source, Path(beside))
        found = collect(unpacked, core_tasks(), bundle)
    missing = [task.label for task in core_tasks() if task not in found]
    if not found:
        raise InputError(f"{args.source} holds none of CORE's files, such as {core_tasks()[0].file}.")
    for task, count in found.items():
        print(f"{task.label:<34}{count:>8,} examples")
    print(
        f"{len(found)} of {len(core_tasks())} tasks in {bundle}"
        + (f"; missing: {', '.join(missing)}" if missing else "")
    )


def unpack(source: str, beside: Path) -> Path:
    """A directory with the files of `source`; if they are downloaded or unpacked, it is below `beside`."""
    path = Path(source)
    if path.is_dir():
        return path
    if source.startswith(("http://", "https://")):
        path = beside / Path(source).name
        download(source, path)
    elif not path.is_file():
        return download_dataset(source)
    try:
        with writing(f"the files of {source} to {beside}"):
            return unpack_archive(path, beside / "unpacked")
    except InputError:
        raise
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, ValueError) as error:
        raise InputError(f"{source} is not a readable archive ({error}): give a .zip or .tar.gz.") from None


def download(url: str, path: Path) -> None:
    """Download the file at `url`. Raises `InputError` if that fails."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, writing(path), path.open("wb") as file:
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
    except InputError:
        raise
    except (OSError, ValueError) as error:  # HTTP errors and unknown hosts are OSErrors
        raise InputError(f"{url} cannot be fetched: {error}.") from None
    if expected is not None and path.stat().st_size != int(expected):
        raise InputError(f"{url} broke off after {path.stat().st_size:,} of {int(expected):,} bytes: try again.")


def download_dataset(name: str) -> Path:
    """Download the tasks' files of a dataset on the Hub. Raises `InputError` if that fails."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    check_hub_reachable(f"{name} is not a local file: give a URL or a local archive by --source.")
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=[f"*{t.file}" for t in core_tasks()]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"dataset {name} cannot be fetched: {' '.join(str(error).split())[:200]}") from None


def unpack_archive(path: Path, directory: Path) -> Path:
    """Unpack the tasks' files of an archive, and nothing else, into `directory`."""
    wanted = tuple(task.file for task in core_tasks())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(directory, [name for name in archive.namelist() if name.endswith(wanted)])
    else:
        with tarfile.open(path) as archive:
            members = [member for member in archive.getmembers() if member.name.endswith(wanted)]
            archive.extractall(directory, members, filter="data")
    return directory


def collect(directory: Path, tasks: Iterable[CoreTask], bundle: Path) -> dict[CoreTask, int]:
    """Copy the tasks' files in `directory` into the bundle after checking every line. Returns examples per task."""
    found = {}
    for task in tasks:
        paths = sorted(directory.rglob(Path(task.file).name))
        path = next((path for path in paths if path.as_posix().endswith(f"/{task.file}")), None)
        if path is None:
            continue
        root = Path(path.as_posix().removesuffix(task.file))
        found[task] = len(read_examples(task, root))
        target = bundle / task.file
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(target, path.read_text(encoding="utf-8"))
    if found:
        atomic.write_text(bundle / "core.yaml", DEFINITIONS.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    exit_on_input_error("evals.core.fetch", lambda: fetch(ARGS))
