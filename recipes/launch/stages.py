"""What the launchers share: the stages, their commands, and what they are estimated to take."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from recipes.training.dry_run import ASSUMED_MFU, estimate_hours, facts_of
from recipes.training.plan import plan_training
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError, suggest
from recipes.utils.hardware import GPUS, gpu_figures

POSTTRAINING = "recipes.training.posttraining_arguments"


@dataclass(frozen=True)
class Stage:
    """A program that a launcher starts: a script or a module, one process a GPU or one for all, and its flags."""

    program: tuple[str, ...]
    arguments: tuple[str, ...]  # the classes of its flags
    directory: str  # where it writes, in the run's directory
    trains: bool = True  # with one process for each GPU


STAGES = {
    "tokenizer": Stage(
        ("-m", "tokenizer.train"), ("tokenizer.train.TokenizerArguments",), directory="tokenizer", trains=False
    ),
    "pretrain": Stage(("recipes/pretrain.py",), ("recipes.training.arguments.PretrainArguments",), directory="base"),
    "midtrain": Stage(("recipes/midtrain.py",), ("recipes.training.arguments.MidtrainArguments",), directory="mid"),
    "sft": Stage(
        ("recipes/sft.py",), (f"{POSTTRAINING}.SFTArguments", f"{POSTTRAINING}.ModelArguments"), directory="sft"
    ),
    "dpo": Stage(
        ("recipes/dpo.py",), (f"{POSTTRAINING}.DPOArguments", f"{POSTTRAINING}.ModelArguments"), directory="dpo"
    ),
    "grpo": Stage(
        ("recipes/grpo.py",), (f"{POSTTRAINING}.GRPOArguments", f"{POSTTRAINING}.ModelArguments"), directory="grpo"
    ),
    "speedrun": Stage(
        ("-m", "recipes.speedrun"), ("recipes.speedrun.SpeedrunArguments",), directory=".", trains=False
    ),
}
PRESETS = {
    "tokenizer": "tokenizer",
    "pretrain": "pretrain",
    "midtrain": "mid",
    "sft": "sft",
    "dpo": "dpo",
    "grpo": "grpo",
}


def find_stage(name: str, among: Sequence[str] = tuple(STAGES)) -> Stage:
    """A stage by its name. Raises `InputError`, naming the closest, if it is unknown."""
    if name not in among:
        raise InputError(f"unknown stage {name!r}: {suggest(name, among)}")
    return STAGES[name]


def check_flags(name: str, flags: Sequence[str]) -> tuple:
    """Read a stage's flags as it will. Raises `InputError` for what it would refuse: now, not on a rented machine."""
    modules = [path.rpartition(".") for path in STAGES[name].arguments]
    classes = [getattr(import_module(module), each) for module, _, each in modules]
    # TRL looks for a GPU when it reads its flags, and this machine need not have one.
    here = ["--use_cpu", "true"] if len(classes) > 1 else []
    try:
        parsed = parse_arguments(*classes, argv=[*flags, *here])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return parsed if isinstance(parsed, tuple) else (parsed,)


def run_directory(run: str) -> Path:
    """Where a run of this name (or user/name) lies on the machine that trains it."""
    return Path("runs", run.rpartition("/")[2])


def place_flags(name: str, flags: Sequence[str], run_dir: Path) -> list[str]:
    """A stage's flags with those that were not given: the GPU preset, and its places in the run's directory.

    Raises `InputError` for an output directory elsewhere: what is written there would end with the machine.
    """
    given = {word.partition("=")[0]: word for word in flags}
    output = "--run_dir" if name == "speedrun" else "--output_dir"
    if output in given:
        raise InputError(f"leave {output} out: the launcher puts the stage into its run's directory.")
    defaults = {} if name == "speedrun" else {"--config": f"recipes/configs/{PRESETS[name]}/gpu.yaml"}
    if name == "pretrain" and "--model_name_or_path" not in given:  # which has a tokenizer of its own
        defaults["--tokenizer"] = str(run_dir / "tokenizer")
    if name == "pretrain" and {"--model_config", "--model_name_or_path"} & given.keys() and "--config" not in given:
        defaults["--generation"] = "none"  # which the preset sets, for a model by depth
    defaults |= {"--source": str(run_dir / "base")} if name == "midtrain" else {}
    placed = [word for flag, value in defaults.items() if flag not in given for word in (flag, value)]
    return [*placed, *flags, output, str(run_dir / STAGES[name].directory)]


def start_command(name: str, flags: Sequence[str], gpus: int) -> list[str]:
    """The command of a stage on one machine: `accelerate launch` where there is one process for each of its GPUs."""
    stage = STAGES[name]
    start = [sys.executable]
    if stage.trains and gpus > 1:
        start += ["-m", "accelerate.commands.launch", "--quiet", "--config_file", "accelerate_configs/ddp.yaml"]
        start += ["--num_processes", str(gpus)]
    return [*start, *stage.program, *flags]


def estimate_lines(
    name: str,
    flags: Sequence[str],
    gpus: int,
    gpu_name: str | None,
    price_per_hour: float | None,
    machines: int = 1,
    limit_hours: float | None = None,
) -> list[str]:
    """Hours of a stage and, where the price of a machine is given, what they cost. Estimates, and called so.

    Raises `InputError` for a GPU that is not known.
    """
    hours = pretraining_hours(name, flags, gpus, gpu_name)
    if hours is None:
        lines = ["estimate: none. What this stage takes has not been measured on GPUs, and no rule gives it."]
    else:
        part = "of pretraining, the longest stage, " if name == "speedrun" else ""
        shown = f"about {hours:.2f}" if hours >= 0.01 else "under 0.01"
        lines = [f"estimate: {shown} h {part}on {gpus} x {gpu_name}, at {ASSUMED_MFU:.0%} of their peak"]
    if price_per_hour is None:
        return lines
    price = machines * price_per_hour
    if hours is not None:
        shown = f"about ${hours * price:,.2f}" if hours * price >= 0.01 else "under $0.01"
        lines.append(f"estimate: {shown} at ${price:,.2f} an hour, without start and evaluations")
    if limit_hours is not None:
        lines.append(f"at most: ${limit_hours * price:,.2f}, when the time limit of {limit_hours:g} h ends it")
    return lines


def pretraining_hours(name: str, flags: Sequence[str], gpus: int, gpu_name: str | None) -> float | None:
    """Hours of pretraining by the plan of recipes/pretrain.py; None for a stage without one, or without a GPU."""
    if name == "speedrun":
        (run,) = check_flags(name, flags)
        flags = [
            "--config",
            "recipes/configs/pretrain/gpu.yaml",
            "--depth",
            str(run.depth or (20 if gpus >= 8 else 12)),
        ]
    elif name != "pretrain":
        return None
    if gpu_name is None:
        return None
    figures = gpu_figures(gpu_name)
    if figures is None:
        raise InputError(f"unknown GPU {gpu_name!r}: {suggest(gpu_name, GPUS)}")
    (args,) = check_flags("pretrain", [*flags, "--gpus", str(gpus)])
    if args.tokenizer and not Path(args.tokenizer).exists():
        args.tokenizer = None  # it lies where the job will run: its size is planned by --vocab_size
    peak, gigabytes = figures
    return estimate_hours(plan_training(args, facts_of(args), gpus, gigabytes * 1e9), gpus, peak)
