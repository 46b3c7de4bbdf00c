"""What a training run runs in: precision, compilation, trackers."""

import math
import os
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config as functorch_config
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DynamoBackend,
    KwargsHandler,
    TorchDynamoPlugin,
    disable_fsdp_ram_efficient_loading,
    parse_flag_from_env,
    patch_environment,
)
from transformers.utils.logging import disable_progress_bar

from recipes.training.arguments import LoopArguments
from recipes.training.plan import Plan
from recipes.training.tracking import parse_trackers
from recipes.utils.errors import InputError
from recipes.utils.hardware import choose_precision, precision_name
from recipes.utils.model_facts import ModelFacts
from recipes.utils.processes import launched_with_fsdp

# FLOPs a process after which torch.compile has repaid its own time: about three minutes of training on two CPU cores,
# where compiling takes half a minute, and an estimated five minutes on an H100.
COMPILE_PAYS_AFTER = {"cpu": 4e13, "cuda": 1e17}
# Under DDP torch.compile cuts the step where a bucket of gradients is full, so that the bucket travels while the graph
# before it is still computed. Nothing is fused or recomputed across a cut: with torch's buckets of 25 MiB a model of
# depth 20 falls into 62 pieces. (Without cuts, `torch._dynamo.config.optimize_ddp = False`, nothing would overlap.)
PIECES = 8
TORCHS_BUCKET = 25  # MiB: what is smaller does not repay its own message
NO_COMPILER = "no C++ compiler (g++, or what CXX names) with Python's headers (python3-dev) was found"


def start_accelerator(
    output_dir: str,
    mixed_precision: str,
    compile_model: str,
    plan: Plan,
    log_with: str | None = None,
    run_name: str | None = None,
    config: dict[str, Any] | None = None,
    activation_memory_budget: float = 1.0,
    handlers: Sequence[KwargsHandler] = (),
) -> Accelerator:
    """Set up devices, precision, compilation and trackers with accelerate.

    Args:
        compile_model: auto, true or false.
        config: what the trackers record of the run.
        activation_memory_budget: share of its activations that compiled training keeps.
        handlers: of the precision (training/precision.py).
    """
    state = PartialState()  # joined by the script
    compiled = should_compile(compile_model, plan, state.device)
    keep_activations(activation_memory_budget, compiled)
    with patch_environment(accelerate_use_fsdp=False):  # training/fsdp.py divides the weights, not accelerate
        accelerator = Accelerator(
            cpu=state.device.type == "cpu",
            mixed_precision=choose_precision(mixed_precision, state.device),
            log_with=parse_trackers(log_with) or None,
            project_dir=output_dir,
            kwargs_handlers=[
                DistributedDataParallelKwargs(
                    bucket_cap_mb=bucket_size(plan.facts),
                    gradient_as_bucket_view=True,  # without this, there is a second copy of all gradients
                ),
                *handlers,
            ],
            # All rows have the same shape, so nothing has to be compiled for dynamic ones.
            dynamo_plugin=TorchDynamoPlugin(backend=DynamoBackend.INDUCTOR, dynamic=False) if compiled else None,
        )
    disable_progress_bar()  # transformers draws one for every file it writes
    torch.set_float32_matmul_precision("high")  # TF32 for what stays in fp32, on GPUs that have it
    name = {"name": run_name or "-".join(Path(output_dir).parts[-2:])}
    accelerator.init_trackers("nanochat", config=config, init_kwargs={"wandb": name, "trackio": name})
    if warning := compiler_warning(compile_model, plan, state.device):
        accelerator.print(warning)
    return accelerator


def refuse_other_launchers(args: LoopArguments) -> None:
    """Raise `InputError` for a way to divide the weights that the loop does not know, or not with these `args`."""
    for name in ("DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise InputError(
                f"accelerate was launched with {name}, which this loop does not support: use "
                "accelerate_configs/ddp.yaml, or fsdp2.yaml for a model that does not fit."
            )
    if not launched_with_fsdp():
        return
    unsupported = {
        "fsdp_version 1": os.environ.get("FSDP_VERSION") != "2",
        "fsdp_offload_params": parse_flag_from_env("FSDP_OFFLOAD_PARAMS"),
        "fsdp_activation_checkpointing (take --gradient_checkpointing)": parse_flag_from_env(
            "FSDP_ACTIVATION_CHECKPOINTING"
        ),
        f"--optimizer {args.optimizer} (take muon)": args.optimizer not in ("muon", None),  # None: not known yet
        f"--mixed_precision {args.mixed_precision} (take bf16)": args.mixed_precision in ("fp16", "fp8"),
        "--use_peft": getattr(args, "use_peft", False),
    }
    if refused := [name for name, given in unsupported.items() if given]:
        raise InputError(
            f"accelerate was launched with FSDP, which does not go together with {', '.join(refused)}: change that, "
            "or use accelerate_configs/ddp.yaml."
        )
    disable_fsdp_ram_efficient_loading()  # transformers would load weights on the main process alone


def keep_activations(budget: float, compiled: bool) -> None:
    """Let what is compiled keep this share of its activations. Raises `InputError` if nothing is compiled.

    torch's config is private, and has no public counterpart; the tests measure what a graph keeps.
    """
    if budget < 1 and not compiled:
        raise InputError(
            f"activation_memory_budget {budget:g} acts on compiled training alone: add --compile true, or take "
            "--gradient_checkpointing."
        )
    functorch_config.activation_memory_budget = budget


def bucket_size(facts: ModelFacts) -> int:
    """MiB of gradients that DDP exchanges at once, for at most `PIECES` pieces of a compiled step.

    All pieces but the first and the last fill a bucket, and the last, with the head, is more than nothing.
    """
    return max(TORCHS_BUCKET, math.ceil(4 * facts.num_parameters / (PIECES - 1) / 2**20))


def print_run(
    accelerator: Accelerator, plan: Plan, data: str, packing: str, attention: str, peak: float | None
) -> None:
    """Print what is about to be trained, on what, with which settings; `peak` in FLOP/s of one device."""
    compiled = accelerator.state.dynamo_plugin.backend != DynamoBackend.NO
    speed = f"{peak / 1e12:.2f} TFLOP/s peak" if peak else "peak unknown"
    devices = f"{accelerator.num_processes} x {accelerator.device.type}"
    precision = precision_name(accelerator.mixed_precision)
    machine = f"{devices}, {precision} precision, {'compiled' if compiled else 'not compiled'}, {speed}"
    if launched_with_fsdp():
        machine += ", weights divided among the processes"
    lines = {"data": data, "packing": packing, "machine": machine, "attention": attention}
    accelerator.print("\n".join([*plan.lines(), *(f"{label:<13}{text}" for label, text in lines.items())]))


def should_compile(requested: str, plan: Plan, device: torch.device) -> bool:
    """Decide on torch.compile: as `requested`, or with "auto" if the run is long enough to repay the time it takes.

    Nothing is measured here: a resumed run and every process must come to the same answer, or bits would differ.
    Raises `InputError` if compilation was requested and this machine has no compiler.
    """
    if requested == "true" and not has_compiler():
        raise InputError(f"--compile true: {NO_COMPILER}. Install them, or leave --compile out.")
    return wants_compile(requested, plan, device) and has_compiler()


def wants_compile(requested: str, plan: Plan, device: torch.device) -> bool:
    """Whether torch.compile would be used on a machine that has a compiler."""
    if requested != "auto":
        return requested == "true"
    return plan.num_flops / plan.world_size >= COMPILE_PAYS_AFTER.get(device.type, float("inf"))


def compiler_warning(requested: str, plan: Plan, device: torch.device) -> str | None:
    """A warning for a GPU that trains at half its speed because there is no compiler; else None."""
    if device.type != "cuda" or has_compiler() or not wants_compile(requested, plan, device):
        return None
    return f"warning: {NO_COMPILER}: without torch.compile, training takes about twice the time and memory"


def has_compiler() -> bool:
    """Whether this machine has what torch.compile builds with: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def compute_dtype(precision: str) -> torch.dtype:
    """Data type of matrix products under a `mixed_precision` of accelerate's; under fp8, of those outside it."""
    return {"bf16": torch.bfloat16, "fp8": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
