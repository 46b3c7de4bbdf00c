"""The processes of a run, joined as the launcher started them."""

from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

# How long processes wait for each other: at a barrier, while one reads and tokenizes data or writes a checkpoint.
# By default, NCCL gives up after ten minutes.
PATIENCE = timedelta(hours=2)


def join_processes(use_cpu: bool = False, timeout: timedelta = PATIENCE) -> PartialState:
    """This process among those the launcher started.

    Without an accelerator on the machine the CPU has to be asked for: accelerate would otherwise leave the processes
    unconnected, each training alone into the same directory.
    """
    cpu = use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timeout)
