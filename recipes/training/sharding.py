"""Divide an optimizer's state and work among ranks that have equal gradients: ZeRO, stage 1 (arXiv 1910.02054).

After DDP's exchange every rank has all gradients, and could compute all updates. Here each rank keeps the state of
a share of the weights, computes the updates of that share, and sends them to the others. Matrices go to ranks whole,
since Muon needs all of a matrix; what AdamW updates is cut into equal pieces.

Under FSDP (training/fsdp.py) every rank has some rows of each gradient and weight. The owner of a matrix is sent all
rows of its gradient, and sends back to each rank those of the update. AdamW updates rows where they are. Either way
the same files are saved, so DDP can resume a checkpoint of FSDP, and FSDP one of DDP.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

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
        self.device = next((matrix.device for matrix in matrices), None)

    def owns(self, matrix: torch.Tensor) -> bool:
        """Whether this rank keeps the state of `matrix` and computes its update."""
        return self.places[matrix][0] == self.rank

    def owned_gradients(self) -> dict[torch.Tensor, torch.Tensor]:
        """The whole gradients of the matrices that this rank owns, where they have any."""
        return {matrix: matrix.grad for matrix in self.places if self.owns(matrix) and matrix.grad is not None}

    def local(self, matrix: torch.Tensor) -> torch.Tensor:
        """What this rank holds of a matrix's weights, and gets of its update."""
        return matrix

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
        mine = torch.zeros(self.load, dtype=dtype, device=self.device)
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


class RowShares(Shares):
    """Which rank owns which of the `matrices`, where every rank has rows of all of them, and of all other weights."""

    def owned_gradients(self) -> dict[torch.Tensor, torch.Tensor]:
        """The whole gradients of the matrices that this rank owns, which all ranks send it."""
        if not self.places:
            return {}
        owned = self._with_gradients()
        mine = owned[self.rank]
        rows = exchange(
            [[matrix.grad.to_local() for matrix in matrices] for matrices in owned],
            [[self._size(matrix, rank) for matrix in mine] for rank in range(self.ranks)],
            torch.float32,
            self.device,
        )()
        return {
            matrix: torch.cat([each[index] for each in rows]).view(matrix.shape) for index, matrix in enumerate(mine)
        }

    def local(self, matrix: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a matrix's weights, and of its update."""
        return matrix.to_local()

    def piece(self, parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """This rank's rows, in one dimension, of a `value` of the parameter's shape, divided already or whole."""
        rows = value.to_local() if is_divided(value) else value[self._rows(value, self.rank)]
        return rows.reshape(-1)

    def send_updates(
        self, own: dict[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> Callable[[], dict[torch.Tensor, torch.Tensor]]:
        """Send to each rank its rows of the updates of `own` matrices in `dtype`, while the caller goes on.

        Returns a function that waits, and returns this rank's rows of the updates of all matrices, in `dtype`.
        """
        if not self.places:
            return dict
        owned = self._with_gradients()
        arrived = exchange(
            [[own[matrix][self._rows(matrix, rank)] for matrix in owned[self.rank]] for rank in range(self.ranks)],
            [[self._size(matrix, self.rank) for matrix in matrices] for matrices in owned],
            dtype,
            self.device,
        )

        def wait() -> dict[torch.Tensor, torch.Tensor]:
            return {
                matrix: rows.view(-1, matrix.size(1))
                for matrices, parts in zip(owned, arrived(), strict=True)
                for matrix, rows in zip(matrices, parts, strict=True)
            }

        return wait

    def send_pieces(self, parameters: Sequence[torch.Tensor]) -> list[dist.Work]:
        """Nothing: rows that AdamW has updated are where they belong."""
        return []

    def _with_gradients(self) -> list[list[torch.Tensor]]:
        """The matrices of each owner that have a gradient; on all ranks the same."""
        matrices = [(matrix, owner) for matrix, (owner, _) in self.places.items() if matrix.grad is not None]
        return [[matrix for matrix, owner in matrices if owner == rank] for rank in range(self.ranks)]

    def _rows(self, value: torch.Tensor, rank: int) -> slice:
        """Those that FSDP gives to `rank`: to the first ranks equally many, to the last ones the rest, or none."""
        rows = value.size(0)
        each = -(-rows // self.ranks)
        return slice(min(rows, rank * each), min(rows, (rank + 1) * each))

    def _size(self, matrix: torch.Tensor, rank: int) -> int:
        """Elements in those rows."""
        rows = self._rows(matrix, rank)
        return (rows.stop - rows.start) * matrix.size(1)


def is_divided(tensor: torch.Tensor) -> bool:
    """Whether ranks hold rows of it each."""
    return isinstance(tensor, DTensor)


def exchange(
    parts: list[list[torch.Tensor]], sizes: list[list[int]], dtype: torch.dtype, device: torch.device
) -> Callable[[], list[list[torch.Tensor]]]:
    """Send to each rank its `parts` in `dtype`, while the caller goes on. `sizes` are of those to come from each.

    Returns a function that waits, and returns what has come from each rank, in one dimension.
    """
    nothing = torch.empty(0, dtype=dtype, device=device)  # a rank may own nothing, and all must take part
    sent = torch.cat([nothing, *(part.reshape(-1).to(dtype) for each in parts for part in each)])
    received = sent.new_empty(sum(map(sum, sizes)))
    work = dist.all_to_all_single(  # as bytes: see `all_gather`
        received.view(torch.uint8),
        sent.view(torch.uint8),
        [dtype.itemsize * sum(each) for each in sizes],
        [dtype.itemsize * sum(part.numel() for part in each) for each in parts],
        async_op=True,
    )

    def wait() -> list[list[torch.Tensor]]:
        work.wait()
        pieces = iter(received.split([size for each in sizes for size in each]))
        return [[next(pieces) for _ in each] for each in sizes]

    return wait


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


def shares_state(optimizer: torch.optim.Optimizer) -> bool:
    """Whether this optimizer, or the one that accelerate has wrapped, keeps only a share of its state."""
    return getattr(getattr(optimizer, "optimizer", optimizer), "shares", None) is not None
