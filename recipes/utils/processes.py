"""Join the processes that the launcher started."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from recipes.utils.errors import InputError
from recipes.utils.hardware import check_card

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
    if not cpu and torch.cuda.is_available():
        check_card(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())  # accelerate's choice
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0:
        _join_again(cpu, timeout)
    return PartialState(cpu=cpu, timeout=timeout)


def launched_with_fsdp() -> bool:
    """Whether the launcher was told to divide the weights among the processes, as by accelerate_configs/fsdp2.yaml."""
    return parse_flag_from_env("ACCELERATE_USE_FSDP")


def refuse_fsdp() -> None:
    """Raise `InputError` in a stage that cannot divide the weights where the launcher asks for it."""
    if launched_with_fsdp():
        raise InputError(
            "accelerate was launched with FSDP, which only pretraining and midtraining support: use "
            "accelerate_configs/ddp.yaml for this stage."
        )


def has_lost_another(error: BaseException) -> bool:
    """Whether `error` says that an exchange between processes broke off, as when one of them has ended."""
    broken = ("Connection closed by peer", "Connection reset by peer", "Socket closed")  # gloo's are RuntimeErrors
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in broken)
    )


def _join_again(cpu: bool, timeout: timedelta) -> None:
    """Connect after the launcher has restarted all processes (`--max_restarts`).

    The launcher's store still holds the addresses of the processes that ended. The new ones would connect to those and
    wait for ever (torch 2.13, with accelerate's default `--rdzv_backend static`): each attempt gets keys of its own.
    Nodes count attempts by themselves, so they agree only if all of them have failed equally often.
    """
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    own = dist.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    device = torch.device("cpu") if cpu else torch.accelerator.current_accelerator()
    backend = dist.get_default_backend_for_device(device)
    dist.init_process_group(backend, store=own, rank=rank, world_size=world_size, timeout=timeout)


def use_expandable_segments() -> None:
    """Have torch's GPU allocator grow its segments, unless the user has set it up: fewer gaps that fit nothing.

    torch reads the variable at the first allocation on a GPU.
    """
    if not any(name in os.environ for name in ALLOCATOR_SETTINGS):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
