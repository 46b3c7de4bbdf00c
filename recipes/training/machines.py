"""What the machines of one run have in common: cards, and storage. What they lack is found before the first step."""

import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from recipes.utils.errors import InputError, SaidByMain

PATIENCE = 50.0  # seconds in which a file must show on a network file system, which may remember what it saw


def smallest_memory(state: PartialState) -> float | None:
    """Bytes of the smallest card among all processes, for all get as many rows; None on CPUs. Says if cards differ."""
    if state.device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(state.device)
    cards = gather_object([(properties.name, float(properties.total_memory))])
    if warning := describe_differences(cards):
        state.print(warning)
    return min(memory for _, memory in cards)


def describe_differences(cards: Sequence[tuple[str, float]]) -> str | None:
    """A line about `cards`, names and bytes by rank, that are not all alike."""
    kinds: dict[str, list[int]] = {}
    for rank, (name, memory) in enumerate(cards):
        kinds.setdefault(f"{name}, {memory / 1e9:.0f} GB", []).append(rank)
    if len(kinds) < 2:
        return None
    listed = "; ".join(f"{kind}: rank {', '.join(map(str, ranks))}" for kind, ranks in kinds.items())
    return f"warning: cards differ ({listed}): all wait for the slowest, and the smallest sets the device batch"


def check_shared(directory: Path, state: PartialState) -> None:
    """Raise `InputError`, on all processes, unless all of them see what the main one writes to `directory`."""
    name = f".shared_{secrets.token_hex(8)}"
    if state.is_main_process:
        (directory / name).touch()
    (name,) = broadcast_object_list([name])  # after it is there, or machines would remember it as missing
    file, deadline = directory / name, time.monotonic() + PATIENCE
    while not (seen := file.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    blind = [each for each in gather_object([None if seen else (state.process_index, socket.gethostname())]) if each]
    if state.is_main_process:
        file.unlink()
    if blind:
        ranks, hosts = ", ".join(str(rank) for rank, _ in blind), ", ".join(sorted({host for _, host in blind}))
        message = (
            f"{directory} is not one directory for all processes: rank {ranks} ({hosts}) does not see what rank 0 "
            "writes there. Put output_dir on storage that all machines share, and give its absolute path."
        )
        raise InputError(message) if state.is_main_process else SaidByMain(message)
