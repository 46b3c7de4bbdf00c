"""`--push_to_hub true --hub_model_id user/name` of the recipes: the finished stage is published as it is saved.

Cheap to import: the model card and the Hub's client are loaded by those runs alone that publish.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from recipes.utils.errors import InputError, in_one_line


@dataclass(frozen=True)
class HubTarget:
    """Where the finished model goes."""

    repo: str
    private: bool


def hub_target(push_to_hub: bool, hub_model_id: str | None, hub_private_repo: bool | None) -> HubTarget | None:
    """Where the flags say that the model goes; None if it stays here. Raises `InputError` without a repository."""
    if not push_to_hub:
        return None
    if not hub_model_id:
        raise InputError("--push_to_hub needs to know where to: give --hub_model_id user/name.")
    return HubTarget(hub_model_id, bool(hub_private_repo))


def check_publishing_rights(target: HubTarget | None) -> None:
    """Raise `InputError` on the main process if the model could not go there now: before training, not after."""
    if target is None or not is_main_process():
        return
    from recipes.publish.upload import check_account, prepare_publication

    check_account(target.repo)
    prepare_publication(target.repo, "model", [], target.private)


def publish_already_finished(target: HubTarget | None, output_dir: Path) -> None:
    """Say that nothing is left to train, and publish the model: an upload that was interrupted is completed.

    Raises `InputError` where that fails.
    """
    if not is_main_process():
        return
    print(f"{output_dir} is finished already; to train again, choose another --output_dir.", flush=True)
    if target is not None:
        check_publishing_rights(target)
        publish_stage(target, output_dir)


def publish_finished(target: HubTarget | None, output_dir: Path) -> None:
    """Publish the stage just trained. What goes wrong is said in one line: the training has not failed by it."""
    if target is None:
        return
    try:
        publish_stage(target, output_dir)
    except Exception as error:
        say_unpublished(target, output_dir, in_one_line(error, 1000))
    except KeyboardInterrupt:
        say_unpublished(target, output_dir, "interrupted.")
        raise SystemExit(128 + signal.SIGINT) from None  # the exit code of shells for Ctrl-C


def publish_stage(target: HubTarget, output_dir: Path) -> None:
    """Publish the stage in `output_dir`. Raises `InputError` if the Hub refuses or the connection breaks."""
    from recipes.publish.files import find_stage, model_files
    from recipes.publish.upload import prepare_publication, publish

    stage, run = find_stage(output_dir.absolute().parent, output_dir.absolute().name)
    publication = prepare_publication(target.repo, "model", model_files(stage, run, target.repo), target.private)
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
