"""Publish a finished run: `python -m recipes.publish --run runs/NAME --repo user/name [--space user/space]`.

Shows what it would upload where, and asks. Interrupted, the same command completes the upload; with new figures, it
brings the model card up to date.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class PublishArguments(Arguments):
    run: str = flag(REQUIRED, "directory of the run, which holds base/, mid/, sft/, dpo/, grpo/", path=True)
    repo: str = flag(REQUIRED, "where the model goes on the Hub: user/name")
    space: str | None = flag(None, "where a Space goes in which the model can be talked to: user/name")
    stage: str | None = flag(None, "base, mid, sft, dpo or grpo (default: the last that is finished)")
    private: bool = flag(False, "create repositories that only you can see")
    yes: bool = flag(False, "upload without asking")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("publish", PublishArguments)

from recipes.publish.files import find_stage, model_files
from recipes.publish.space import space_files
from recipes.publish.upload import INTERRUPTED, check_account, prepare_publication, publish


def publish_run(args: PublishArguments) -> None:
    stage, run = find_stage(Path(args.run), args.stage)
    files = model_files(stage, run, args.repo)
    app = space_files(args.repo) if args.space else []
    repos = [args.repo, *([args.space] if args.space else [])]
    user = check_account(*repos)
    publications = [prepare_publication(args.repo, "model", files, args.private)]
    if args.space:
        variables = {"MODEL_ID": args.repo}
        publications.append(prepare_publication(args.space, "space", app, args.private, variables))
    print(f"{stage.directory}, as {user},")
    for publication in publications:
        print("\n".join(publication.lines()))
    if not (args.yes or agreed()):
        print("nothing was uploaded")
        return
    for publication in publications:
        publish(publication, f"Upload {stage.title} of {run.name}" if publication.kind == "model" else "Upload Space")
    if args.space and publications[0].private:
        settings = f"{publications[1].url}/settings"
        print(f"the model is private: give the Space a secret HF_TOKEN that may read it ({settings})")


def agreed() -> bool:
    """Whether the user says yes. Raises `InputError` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise InputError("nobody to ask (stdin is not a terminal): give --yes to upload what is listed above.")
    try:
        return input("upload this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def main(args: PublishArguments) -> None:
    try:
        publish_run(args)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    exit_on_input_error("publish", lambda: main(ARGS))
