"""`--push_to_hub true --hub_model_id user/name` of the recipes: the finished stage is published as it is saved."""

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
    """Where the finished model goes."""

    repo: str
    private: bool


def hub_target(args: Any) -> HubTarget | None:
    """Where `args` say that the model goes, if anywhere.

    Raises `InputError` on the main process if it could not go there now: better before training than after.
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
    """What a recipe does where its work is done already: say so, and publish it if `args` ask for that.

    So the command whose upload was interrupted completes it. Raises `InputError` where that fails.
    """
    if not is_main_process():
        return
    print(f"{output_dir} is finished already; to train anew, choose another --output_dir.", flush=True)
    target = hub_target(args)
    if target is not None:
        publish_stage(target, output_dir)


def publish_finished(target: HubTarget, output_dir: Path) -> None:
    """Publish the stage just trained. What goes wrong is said in one line: the training has not failed by it."""
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
    """Why the model is here only, and the command that publishes it."""
    where = f"--run {quote(str(output_dir.parent))} --stage {quote(output_dir.name)} --repo {quote(target.repo)}"
    private = " --private" if target.private else ""
    print(
        f"not published: {reason} The model is safe in {output_dir}; to try again: "
        f"python -m recipes.publish {where}{private}",
        file=sys.stderr,
    )


def is_main_process() -> bool:
    """Whether this process speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0
