"""Divide an optimizer's state and work among ranks that have equal gradients: ZeRO, stage 1 (arXiv 1910.02054).

After DDP's exchange every rank has all gradients, and could compute all updates. Here each rank keeps the state of
a share of the weights, computes the updates of that share, and sends them to the others. Matrices go to ranks whole,
since Muon needs all of a matrix; what AdamW updates is cut into equal pieces.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

SMALLEST_CUT = 2**14  # elements: the state of smaller parameters saves nothing, and every rank keeps all of it


class Shares:
    """Which rank owns which of the `matrices`, so that all ranks own about equally many elements."""

    def __init__(self, matrices: Sequence[torch.Tensor], rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        loads = [0] * ranks
        self.places: dict[torch.Tensor, tuple[int, int]] = {}  # owner, and offset among what it owns
        # The largest first, each to the rank that owns least so far. Sorting is stable: all ranks come to one result.
        for matrix in sorted(matrices, key=torch.Tensor.numel, reverse=True):
            owner = loads.index(min(loads))
            self.places[matrix] = owner, loads[owner]
            loads[owner] += matrix.numel()
        self.load = max(loads, default=0)

    def owns(self, matrix: torch.Tensor) -> bool:
        """Whether this rank keeps the state of `matrix` and computes its update."""
        return self.places[matrix][0] == self.rank

    def cuts(self, parameter: torch.Tensor) -> bool:
        """Whether AdamW's state of `parameter` is cut: if it is large, and into equal pieces."""
        size = parameter.numel()
        return size >= SMALLEST_CUT and size % self.ranks == 0 and parameter.is_contiguous()

    def piece(self, parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """This rank's piece, in one dimension, of a `value` of the parameter's shape; all of it where none is cut."""
        return value.reshape(-1).chunk(self.ranks)[self.rank] if self.cuts(parameter) else value

    def send_updates(
        self, own: dict[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> Callable[[], dict[torch.Tensor, torch.Tensor]]:
        """Send the updates of `own` matrices to all ranks in `dtype`, as one buffer, while the caller goes on.

        Returns a function that waits, and returns the updates of all matrices: views in `dtype`.
        """
        if not self.places:
            return dict
        device = next(iter(self.places)).device
        mine = torch.zeros(self.load, dtype=dtype, device=device)
        for matrix, update in own.items():
            offset = self.places[matrix][1]
            mine[offset:][: matrix.numel()].view(matrix.shape).copy_(update)
        everyones = mine.new_empty(self.ranks * self.load)
        work = all_gather(everyones, mine)

        def wait() -> dict[torch.Tensor, torch.Tensor]:
            work.wait()
            by_rank = everyones.view(self.ranks, self.load)
            return {
                matrix: by_rank[owner, offset : offset + matrix.numel()].view(matrix.shape)
                for matrix, (owner, offset) in self.places.items()
            }

        return wait

    def send_pieces(self, parameters: Sequence[torch.Tensor]) -> list[dist.Work]:
        """Send this rank's pieces of `parameters` to all ranks, in place; what is not cut is equal on all already."""
        cut = [parameter.detach() for parameter in parameters if self.cuts(parameter)]
        return [all_gather(parameter.view(-1), self.piece(parameter, parameter).clone()) for parameter in cut]


def all_gather(everyones: torch.Tensor, mine: torch.Tensor) -> dist.Work:
    """Start to gather `mine` of every rank into `everyones`, as bytes: gloo does not know every dtype."""
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.13
    return gather(everyones.view(torch.uint8), mine.view(torch.uint8), async_op=True)


def merge_shards(shards: Sequence[dict[str, Any]], parameters: Sequence[torch.Tensor]) -> dict[str, Any]:
    """One optimizer's whole state dict from those that the ranks saved, in their order; a single one may be whole.

    The owner of a matrix saved all of its state; of a parameter that is cut, each rank saved its piece.
    """
    if len(shards) == 1:
        return shards[0]
    by_index: dict[int, list[dict[str, torch.Tensor]]] = {}
    for shard in shards:
        for index, state in shard["state"].items():
            by_index.setdefault(index, []).append(state)
    merged = {
        index: {name: _whole([state[name] for state in states], parameters[index]) for name in states[0]}
        for index, states in by_index.items()
    }
    return {**shards[0], "state": merged}


def _whole(pieces: list[torch.Tensor], parameter: torch.Tensor) -> torch.Tensor:
    is_cut = pieces[0].ndim == 1 and sum(map(torch.Tensor.numel, pieces)) == parameter.numel()
    return torch.cat(pieces).view(parameter.shape) if is_cut else pieces[0]


def is_sharded(optimizer: torch.optim.Optimizer) -> bool:
    """Whether this optimizer, or the one that accelerate has wrapped, keeps only a share of its state."""
    return getattr(getattr(optimizer, "optimizer", optimizer), "shares", None) is not None
