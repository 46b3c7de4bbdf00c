"""Join the processes that the launcher started."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

# How long processes wait for each other at a barrier, while one tokenizes data or writes a checkpoint. NCCL's default
# is ten minutes.
PATIENCE = timedelta(hours=2)
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def join_processes(use_cpu: bool = False, timeout: timedelta = PATIENCE) -> PartialState:
    """Connect this process with the others that the launcher started.

    On a machine without an accelerator, the CPU must be requested: otherwise accelerate would not connect the
    processes, and each would train alone into the same directory.
    """
    use_expandable_segments()
    cpu = use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timeout)


def use_expandable_segments() -> None:
    """Have torch's GPU allocator grow its segments, unless the user has set it up: fewer gaps that fit nothing.

    torch reads the variable at the first allocation on a GPU.
    """
    if not any(name in os.environ for name in ALLOCATOR_SETTINGS):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
