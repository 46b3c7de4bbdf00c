"""What every training script sets up first: processes, precision, the output directory, trackers, the seed."""

import json
import os
import shutil
import sysconfig
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DynamoBackend, TorchDynamoPlugin, parse_flag_from_env
from transformers.utils.logging import disable_progress_bar

from recipes import atomic
from recipes.arguments import resumable_flags
from recipes.errors import InputError
from recipes.training.arguments import LoopArguments
from recipes.training.checkpoints import whole_checkpoints
from recipes.training.hardware import choose_precision
from recipes.training.plan import Plan
from recipes.training.tracking import parse_trackers, read_metrics

ARGUMENTS_FILE = "arguments.json"

# FLOPs a process from which torch.compile repays its own time: some three minutes of training on two CPU cores, where
# it takes half a minute, and by estimate some five minutes on an H100.
COMPILE_PAYS_AFTER = {"cpu": 4e13, "cuda": 1e17}


def join_processes() -> PartialState:
    """This process among those the launcher started.

    Without an accelerator on the machine the CPU has to be asked for: accelerate would otherwise leave the processes
    unconnected, each training alone into the same directory.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


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
    """
    if args.compile != "auto":
        return args.compile == "true"
    flops = plan.num_flops / plan.world_size
    return flops >= COMPILE_PAYS_AFTER.get(device.type, float("inf")) and has_compiler()


def has_compiler() -> bool:
    """Whether this machine has what torch.compile builds with: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def compute_dtype(precision: str) -> torch.dtype:
    """Type of the numbers in matrix products."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def claim_output_dir(args: LoopArguments, plan: Plan, state: PartialState) -> Path:
    """Create the output directory, or make sure that what is there belongs to a run with the same arguments.

    A run that never made a step, as after a mistake in its arguments, has no claim to it.
    Raises `InputError` naming every argument that differs.
    """
    output_dir = Path(args.output_dir)
    free_to_change = resumable_flags(type(args))
    mine = {name: value for name, value in asdict(args).items() if name not in free_to_change}
    # As planned: by rule, the batch follows from the machine as well.
    mine |= {"total_batch_size": plan.total_batch_size, "num_iterations": plan.num_steps}
    if state.is_main_process:
        _claim(output_dir, mine)
    state.wait_for_everyone()
    return output_dir


def _claim(output_dir: Path, mine: dict[str, Any]) -> None:
    known = output_dir / ARGUMENTS_FILE
    begun = read_metrics(output_dir / "metrics.jsonl") or whole_checkpoints(output_dir)
    if not (begun and known.exists()):
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            atomic.write_text(known, json.dumps(mine, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"cannot write to output_dir {output_dir}: {error.strerror}.") from None
        return
    theirs = json.loads(known.read_text())
    different = [
        f"{name} {theirs.get(name)!r} there, {value!r} now"
        for name, value in mine.items()
        if theirs.get(name) != value
    ]
    if different:
        raise InputError(
            f"output_dir {output_dir} belongs to a run of another configuration ({'; '.join(different)}): "
            "choose another output_dir, or the same configuration."
        )
