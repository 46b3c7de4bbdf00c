"""What `sbatch recipes/launch/slurm.sh` would submit: `bash recipes/launch/slurm.sh --dry_run --nodes 2 -- STAGE ...`.

The script itself calls this when it runs outside of a job. Nothing is submitted.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import Arguments, flag
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class SlurmArguments(Arguments):
    """Flags of `bash recipes/launch/slurm.sh`, outside of a job."""

    dry_run: bool = flag(False, "show what would be submitted")
    nodes: int = flag(1, "nodes of the job", least=1, most=10_000)
    gpus_per_node: int = flag(8, "GPUs of a node", least=1, most=64)
    gpu_name: str = flag("H100", "their kind, for the estimate")
    price_per_hour: float | None = flag(None, "dollars an hour of one node", least=0)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    from recipes.launch.command_line import read_launch_line

    ARGS, REST = read_launch_line("slurm", SlurmArguments)

from recipes.launch.stages import check_flags, estimate_lines, find_stage

SCRIPT = Path("recipes", "launch", "slurm.sh")
ON_CLUSTERS = ("pretrain", "midtrain", "sft", "dpo", "grpo")  # one task a GPU


def describe(args: SlurmArguments, rest: list[str]) -> list[str]:
    """The lines of a dry run; `rest` is the stage and its flags. Raises `InputError` for what would fail."""
    if not args.dry_run:
        raise InputError(f"submit it: sbatch {SCRIPT} STAGE ...; --dry_run shows what that would do.")
    if not rest:
        raise InputError(f"no stage: give -- and one of {', '.join(ON_CLUSTERS)} with its flags.")
    name, flags = rest[0], rest[1:]
    stage = find_stage(name, ON_CLUSTERS)
    check_flags(name, flags)
    if not any(word.partition("=")[0] == "--output_dir" for word in flags):
        raise InputError("no --output_dir: give one on storage that all nodes share.")
    options = {"nodes": args.nodes, "gpus-per-node": args.gpus_per_node, "ntasks-per-node": args.gpus_per_node}
    words = [f"--{option}={value}" for option, value in options.items()]
    kept = [line for line in directives() if line.partition("=")[0].removeprefix("--") not in options]
    program = shlex.join([".venv/bin/python", *stage.program, *flags])
    tasks = args.nodes * args.gpus_per_node
    return [
        "would submit:",
        f"  {shlex.join(['sbatch', *words, str(SCRIPT), name, *flags])}",
        "with, from the script:",
        *(f"  {line}" for line in kept),
        f"which starts {tasks} tasks by srun, one a GPU, each:",
        f"  {program}",
        "and puts itself back into the queue when it was stopped before it had finished.",
        *estimate_lines(name, flags, tasks, args.gpu_name, args.price_per_hour, machines=args.nodes),
    ]


def directives() -> list[str]:
    """Options of sbatch that stand in the script."""
    lines = Path(__file__).with_suffix(".sh").read_text().splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


if __name__ == "__main__":
    exit_on_input_error("slurm", lambda: print("\n".join(describe(ARGS, REST))))
