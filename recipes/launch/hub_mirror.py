"""A run's directory and its repository on the Hub: whole checkpoints go up as they appear, the newest comes back."""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.utils import disable_progress_bars

from recipes.launch.watch import newest_checkpoints_of
from recipes.publish.upload import one_line
from recipes.training.checkpoint_files import MANIFEST, NAME, step_of
from recipes.utils.errors import InputError
from recipes.utils.run_directory import CHECKPOINTS, FINISHED_BY, is_finished

IN_A_CHECKPOINT = re.compile(rf"(?P<stage>.+)/{CHECKPOINTS}/(?P<name>[^/]+)/.+")
WEIGHTS = ".safetensors"
PATIENCE = (0, 10, 60)  # seconds before each attempt of the last push
PAUSE = 60  # seconds after a push that failed
KEPT = "what was pushed before is kept."


class HubMirror:
    """Keeps `repo`, a model repository, up to date with `run_dir`. One commit a push, so it is whole at any time."""

    def __init__(self, repo: str, run_dir: Path) -> None:
        self.repo, self.run_dir, self.api = repo, run_dir, HfApi()
        self.pushed: set[Path] = set()  # checkpoints
        self.not_before = 0.0  # when to push again, by the monotonic clock
        disable_progress_bars()

    def pull(self) -> None:
        """Create the repository, private, or bring back what it holds: of an unfinished stage its newest checkpoint.

        What is here and newer than there stays. Raises `InputError` if the Hub refuses or the connection breaks.
        """
        with one_line(self.repo, "nothing was started."):
            self.api.create_repo(self.repo, private=True, exist_ok=True)
            files = self.api.list_repo_files(self.repo)
            newest = newest_checkpoints(files)
            wanted = [path for path in files if path != ".gitattributes" and is_needed(path, newest, files)]
            if not wanted:
                print(f"{self.repo} is empty: the run begins", flush=True)
                return
            here = [path for path in newest_checkpoints_of(self.run_dir) if self.is_ahead(path, newest)]
            if here:
                print(f"{here[0]} is newer than what {self.repo} holds: the run goes on from here", flush=True)
                return
            snapshot_download(self.repo, local_dir=self.run_dir, allow_patterns=[literal(path) for path in wanted])
        self.pushed = {self.run_dir / stage / CHECKPOINTS / name for stage, name in newest.items()}
        found = ", ".join(f"{stage}/{name}" for stage, name in newest.items()) or "no checkpoint"
        print(f"{self.repo} holds {found}: the run goes on from there", flush=True)

    def push_if_new(self) -> None:
        """Push if a checkpoint has been finished since. A failure is said in one line, and tried again next time."""
        if time.monotonic() >= self.not_before and self.new_checkpoints():
            try:
                self.push()
            except InputError as error:
                print(f"not pushed yet: {error}", flush=True)
                self.not_before = time.monotonic() + PAUSE

    def push_at_last(self) -> None:
        """Push all that is there now. Raises `InputError` when that fails several times."""
        for number, seconds in enumerate(PATIENCE, 1):
            time.sleep(seconds)
            try:
                return self.push()
            except InputError:
                if number == len(PATIENCE):
                    raise

    def new_checkpoints(self) -> list[Path]:
        """The newest whole checkpoint of each stage, where it is not on the Hub."""
        return [path for path in newest_checkpoints_of(self.run_dir) if path not in self.pushed]

    def push(self) -> None:
        """One commit: new checkpoints, what lies beside them, finished models; older checkpoints are removed by it.

        Raises `InputError` if the Hub refuses, the connection breaks, or a file goes away meanwhile.
        """
        new = self.new_checkpoints()
        with tempfile.TemporaryDirectory(dir=self.run_dir, prefix=".push.") as kept, one_line(self.repo, KEPT):
            adds = self.collect(new, Path(kept))
            newest = {self.name(path.parents[1]): path.name for path in new}
            there = self.api.list_repo_files(self.repo)
            removed = [CommitOperationDelete(path) for path in there if is_older(path, newest)]
            what = ", ".join(self.name(path) for path in new) or "files"
            commit = self.api.create_commit(self.repo, [*adds, *removed], commit_message=f"Push {what}")
        self.pushed |= set(new)
        print(f"pushed {what} to {self.repo} ({commit.oid[:12]})", flush=True)

    def collect(self, new: list[Path], kept: Path) -> list[CommitOperationAdd]:
        """All files to push. Those of checkpoints are held in `kept`: training deletes old ones while we upload."""
        try:
            adds = [CommitOperationAdd(self.name(path), content(path)) for path in beside_checkpoints(self.run_dir)]
            for checkpoint in new:
                for file in link_tree(checkpoint, kept / self.name(checkpoint)):
                    adds.append(CommitOperationAdd(file.relative_to(kept).as_posix(), file))
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} was replaced by a newer one.") from None
        return adds

    def is_ahead(self, checkpoint: Path, newest: dict[str, str]) -> bool:
        """Whether a checkpoint here is newer than that of its stage on the Hub."""
        there = newest.get(self.name(checkpoint.parents[1]))
        return there is None or step_of(checkpoint) > step_of(Path(there))

    def name(self, path: Path) -> str:
        """A path within the repository."""
        return path.relative_to(self.run_dir).as_posix()


def newest_checkpoints(files: list[str]) -> dict[str, str]:
    """The newest checkpoint of each stage among a repository's files."""
    newest: dict[str, str] = {}
    for match in filter(None, map(IN_A_CHECKPOINT.fullmatch, files)):
        stage, name = match["stage"], match["name"]
        if NAME.fullmatch(name) and step_of(Path(name)) >= step_of(Path(newest.get(stage, name))):
            newest[stage] = name
    return newest


def is_older(path: str, newest: dict[str, str]) -> bool:
    """Whether a file belongs to another checkpoint than the newest of its stage."""
    match = IN_A_CHECKPOINT.fullmatch(path)
    return match is not None and newest.get(match["stage"], match["name"]) != match["name"]


def is_needed(path: str, newest: dict[str, str], files: list[str]) -> bool:
    """Whether a run goes on from a file: older checkpoints and those of finished stages are not needed."""
    match = IN_A_CHECKPOINT.fullmatch(path)
    return match is None or (not is_older(path, newest) and f"{match['stage']}/{FINISHED_BY}" not in files)


def beside_checkpoints(run_dir: Path) -> list[Path]:
    """Files outside of checkpoints; weights only of finished stages, whose last file is there."""
    found = []
    for path in sorted(run_dir.rglob("*")):
        parts = path.relative_to(run_dir).parts
        aside = CHECKPOINTS in parts or any(part.startswith(".") for part in parts)
        if path.is_file() and not aside and (path.suffix != WEIGHTS or is_finished(run_dir / parts[0])):
            found.append(path)
    return found


def content(path: Path) -> bytes | Path:
    """Weights by their path; what training may be writing to, such as metrics, as it is now."""
    return path if path.suffix == WEIGHTS else path.read_bytes()


def link_tree(source: Path, target: Path) -> list[Path]:
    """Link all files of a checkpoint, or copy them where links are not supported.

    Raises `FileNotFoundError` if it is removed meanwhile.
    """
    names = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    for name in dict.fromkeys([*names, Path(MANIFEST)]):  # without a manifest it was not whole any more
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(source / name, target / name)
    return [target / name for name in names]


def literal(path: str) -> str:
    """A pattern that matches this path alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)
