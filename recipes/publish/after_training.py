"""`--push_to_hub true --hub_model_id user/name` of the recipes: publish a stage right after training."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from recipes.publish.files import find_stage, model_files
from recipes.publish.upload import INTERRUPTED, check_account, look_at, publish
from recipes.utils.errors import InputError


@dataclass(frozen=True)
class HubTarget:
    """The repository for the finished model."""

    repo: str
    private: bool


def hub_target(args: Any) -> HubTarget | None:
    """The target that `args` ask for, if any.

    Raises `InputError` on the main process if the upload would be refused: better before training than after.
    """
    if not args.push_to_hub:
        return None
    if not args.hub_model_id:
        raise InputError("--push_to_hub needs to know where to: give --hub_model_id user/name.")
    target = HubTarget(args.hub_model_id, bool(args.hub_private_repo))
    if is_main_process():
        check_account(target.repo)
        look_at(target.repo, "model", [], target.private)
    return target


def leave_finished(args: Any, output_dir: Path) -> None:
    """For a recipe whose output is finished already: say so, and publish it if `args` ask for that.

    So the same command completes an interrupted upload. Raises `InputError` if that fails.
    """
    if not is_main_process():
        return
    print(f"{output_dir} is finished already; to train anew, choose another --output_dir.", flush=True)
    target = hub_target(args)
    if target is not None:
        publish_stage(target, output_dir)


def publish_finished(target: HubTarget, output_dir: Path) -> None:
    """Publish the stage just trained. A failure is printed in one line: the training itself succeeded."""
    try:
        publish_stage(target, output_dir)
    except Exception as error:
        say_unpublished(target, output_dir, " ".join(str(error).split()) or type(error).__name__)
    except KeyboardInterrupt:
        say_unpublished(target, output_dir, "interrupted.")
        raise SystemExit(INTERRUPTED) from None


def publish_stage(target: HubTarget, output_dir: Path) -> None:
    """Publish the stage in `output_dir`. Raises `InputError` if the Hub refuses or the connection breaks."""
    stage, run = find_stage(output_dir.absolute().parent, output_dir.absolute().name)
    publication = look_at(target.repo, "model", model_files(stage, run, target.repo), target.private)
    print(f"publishing {publication.total} in {len(publication.uploads)} files to {publication.url}", flush=True)
    publish(publication, f"Upload {stage.title} of {run.name}")


def say_unpublished(target: HubTarget, output_dir: Path, reason: str) -> None:
    """Message: why the model was not uploaded, and the command that uploads it."""
    where = f"--run {quote(str(output_dir.parent))} --stage {quote(output_dir.name)} --repo {quote(target.repo)}"
    private = " --private" if target.private else ""
    print(
        f"not published: {reason} The model is safe in {output_dir}; to try again: "
        f"python -m recipes.publish {where}{private}",
        file=sys.stderr,
    )


def is_main_process() -> bool:
    """Whether this is rank 0."""
    return int(os.environ.get("RANK", "0")) == 0
