"""What every training script sets up first: processes, precision, trackers."""

import os
import shutil
import sysconfig
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DynamoBackend, TorchDynamoPlugin
from transformers.utils.logging import disable_progress_bar

from recipes.training.arguments import LoopArguments
from recipes.training.plan import Plan
from recipes.training.tracking import parse_trackers
from recipes.utils.errors import InputError
from recipes.utils.hardware import choose_precision
from recipes.utils.processes import join_processes

# FLOPs a process from which torch.compile repays its own time: some three minutes of training on two CPU cores, where
# it takes half a minute, and by estimate some five minutes on an H100.
COMPILE_PAYS_AFTER = {"cpu": 4e13, "cuda": 1e17}
NO_COMPILER = "no C++ compiler (g++, or what CXX names) with Python's headers (python3-dev) was found"


def settings(args: Any, recipe: str, state: PartialState, **planned: Any) -> dict[str, Any]:
    """What a run is known by: its arguments, what was `planned` where they left it open, and who trains."""
    return asdict(args) | planned | {"recipe": recipe, "num_processes": state.num_processes}


def start_accelerator(args: LoopArguments, compile_model: bool) -> Accelerator:
    """Devices, precision, compilation and trackers, by accelerate."""
    state = join_processes()
    accelerator = Accelerator(
        cpu=state.device.type == "cpu",
        mixed_precision=choose_precision(args.mixed_precision, state.device),
        log_with=parse_trackers(args.log_with) or None,
        project_dir=args.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],  # saves a copy of all gradients
        dynamo_plugin=TorchDynamoPlugin(backend=DynamoBackend.INDUCTOR, dynamic=False) if compile_model else None,
    )
    disable_progress_bar()  # of transformers, which draws one for every file it writes
    torch.set_float32_matmul_precision("high")  # TF32 for what stays fp32 on GPUs that have it
    accelerator.init_trackers("nanochat", config=asdict(args), init_kwargs=_tracker_names(args))
    return accelerator


def _tracker_names(args: LoopArguments) -> dict[str, dict]:
    name = args.run or "-".join(Path(args.output_dir).parts[-2:])
    return {"wandb": {"name": name}, "trackio": {"name": name}}


def worth_compiling(args: LoopArguments, plan: Plan, device: torch.device) -> bool:
    """Whether to use torch.compile: as told, or when the run is long enough for it to repay its own time.

    Nothing here is measured: a resumed run and every process must come to the same answer, or bits would differ.
    Raises `InputError` if it was asked for and this machine has no compiler.
    """
    if args.compile == "true" and not has_compiler():
        raise InputError(f"--compile true: {NO_COMPILER}. Install them, or leave --compile out.")
    return wants_compiling(args, plan, device) and has_compiler()


def wants_compiling(args: LoopArguments, plan: Plan, device: torch.device) -> bool:
    """Whether torch.compile would be used if this machine has what it needs."""
    if args.compile != "auto":
        return args.compile == "true"
    return plan.num_flops / plan.world_size >= COMPILE_PAYS_AFTER.get(device.type, float("inf"))


def compiler_warning(args: LoopArguments, plan: Plan, device: torch.device) -> str | None:
    """What to say on a GPU that trains at half its speed for want of a compiler."""
    if device.type != "cuda" or has_compiler() or not wants_compiling(args, plan, device):
        return None
    return f"warning: {NO_COMPILER}: without torch.compile, training takes about twice the time and memory"


def has_compiler() -> bool:
    """Whether this machine has what torch.compile builds with: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def compute_dtype(precision: str) -> torch.dtype:
    """Type of the numbers in matrix products."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
