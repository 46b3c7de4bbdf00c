"""What the machines of one run have in common: cards, and storage. What they lack is found before the first step."""

import re
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from recipes.utils.errors import InputError, SaidByMain

PATIENCE = 10.0  # seconds in which a file must show on a network file system


@dataclass(frozen=True)
class Card:
    """A GPU of the run: its name, its memory in bytes, and why this torch cannot use it, if it cannot."""

    name: str
    memory: float
    misfit: str | None


def smallest_memory(state: PartialState) -> float | None:
    """Bytes of the smallest card among all processes, for all get as many rows; None on CPUs.

    Says in a line if the cards differ. Raises `InputError` if this torch has no kernels for one of them.
    """
    if state.device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(state.device)
    architectures = torch.cuda.get_arch_list()
    misfit = find_misfit((properties.major, properties.minor), [] if torch.version.hip else architectures)
    cards = gather_object([Card(properties.name, float(properties.total_memory), misfit)])
    if warning := check_cards(cards):
        state.print(warning)
    return min(card.memory for card in cards)


def check_cards(cards: Sequence[Card]) -> str | None:
    """A line about `cards`, by rank, that are not all alike. Raises `InputError` for one that torch cannot use."""
    for rank, card in enumerate(cards):
        if card.misfit is not None:
            raise InputError(
                f"torch {torch.__version__} cannot use the {card.name} of rank {rank}: {card.misfit}. Install a build "
                "for it: https://pytorch.org/get-started/locally."
            )
    kinds: dict[str, list[int]] = {}
    for rank, card in enumerate(cards):
        kinds.setdefault(f"{card.name}, {card.memory / 1e9:.0f} GB", []).append(rank)
    if len(kinds) < 2:
        return None
    listed = "; ".join(f"{kind}: rank {', '.join(map(str, ranks))}" for kind, ranks in kinds.items())
    return f"warning: cards differ ({listed}): all wait for the slowest, and the smallest sets the device batch"


def find_misfit(capability: tuple[int, int], architectures: Sequence[str]) -> str | None:
    """Why a torch that was built for `architectures`, such as sm_90, does not run on a card of this `capability`.

    Kernels run on cards of their own generation that are not older, and PTX (compute_90) on all newer ones.
    """
    major, minor = capability
    for architecture in architectures:
        kind, theirs, their_minor, exact = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture).groups()
        built_for = int(theirs), int(their_minor)
        if built_for == capability or (
            exact != "a" and built_for < capability and (kind == "compute" or built_for[0] == major)
        ):
            return None
    return f"it is sm_{major}{minor}, and that build is for {', '.join(architectures)}" if architectures else None


def check_shared(directory: Path, state: PartialState) -> None:
    """Raise `InputError`, on all processes, unless all of them see what the main one writes to `directory`."""
    (name,) = broadcast_object_list([f".shared_{secrets.token_hex(8)}"])  # which no machine can remember as missing
    file, deadline = directory / name, time.monotonic() + PATIENCE
    if state.is_main_process:
        file.touch()
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
