"""A stage inside a Hugging Face Job: `python -m recipes.launch.hub_run --stage pretrain --hub_run_id user/run -- ...`.

Brings the run back from its repository, trains, and pushes whole checkpoints beside the training.
`recipes.launch.hf_jobs` submits it; it also runs on any machine with a token of the Hub.
"""

import sys
from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag
from recipes.utils.errors import exit_on_input_error


@dataclass
class HubRunArguments(Arguments):
    """Flags of `python -m recipes.launch.hub_run`; those of the stage follow after `--`."""

    stage: str = flag(REQUIRED, "tokenizer, pretrain, midtrain, sft, dpo, grpo or speedrun")
    hub_run_id: str = flag(REQUIRED, "model repository on the Hub that keeps the run: user/name")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    from recipes.launch.command_line import read_launch_line

    ARGS, FLAGS = read_launch_line("hub_run", HubRunArguments)

import torch

from recipes.launch.hub_mirror import HubMirror
from recipes.launch.stages import check_flags, find_stage, place_flags, run_directory, start_command
from recipes.launch.watch import run_watched
from recipes.publish.upload import check_account


def run_stage(args: HubRunArguments, flags: list[str]) -> int:
    """The stage's exit code, after all it wrote is on the Hub. Raises `InputError` if that refuses it."""
    find_stage(args.stage)
    check_account(args.hub_run_id)
    run_dir = run_directory(args.hub_run_id)
    flags = place_flags(args.stage, flags, run_dir)
    check_flags(args.stage, flags)
    mirror = HubMirror(args.hub_run_id, run_dir)
    mirror.pull()
    run_dir.mkdir(parents=True, exist_ok=True)
    command = start_command(args.stage, flags, torch.cuda.device_count())
    code = run_watched(command, mirror.push_if_new)
    mirror.push_at_last()
    return code


if __name__ == "__main__":
    sys.exit(exit_on_input_error("hub_run", lambda: run_stage(ARGS, FLAGS)))
