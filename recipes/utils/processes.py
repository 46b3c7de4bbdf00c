"""Join the processes that the launcher started."""

from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

# How long processes wait for each other at a barrier, while one tokenizes data or writes a checkpoint. NCCL's default
# is ten minutes.
PATIENCE = timedelta(hours=2)


def join_processes(use_cpu: bool = False, timeout: timedelta = PATIENCE) -> PartialState:
    """Connect this process with the others that the launcher started.

    On a machine without an accelerator, the CPU must be requested: otherwise accelerate would not connect the
    processes, and each would train alone into the same directory.
    """
    cpu = use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timeout)
