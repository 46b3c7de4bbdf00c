"""A model's loss on each token of a text that is longer than its context, window by window."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel


@torch.no_grad()
def nats_of_tokens(
    model: PreTrainedModel,
    ids: torch.Tensor,
    length: int,
    stride: int,
    batch_tokens: int,
    rank: int = 0,
    world_size: int = 1,
) -> torch.Tensor:
    """-ln p of each of the tokens `ids` (N,), given those before it in its window, as a float64 tensor (N,).

    Windows of `length` tokens begin every `stride` tokens. Each predicts the tokens that none before it has: the first
    all of them, the others their last `stride`, which thus have at least `length - stride` tokens before them. With
    `stride == length` windows are disjoint rows. Every `world_size`-th window is this process's; elsewhere, and at the
    first token, which nothing precedes, the result is 0.
    """
    length = min(length, len(ids) - 1)
    stride = min(stride, length)
    rows, starts = _windows(ids, length, stride)
    nats = torch.zeros(len(ids) + length, dtype=torch.float64)  # room for the padding of the last window
    mine = range(rank, len(starts), world_size)
    per_batch = max(1, batch_tokens // length)
    for batch in (mine[place : place + per_batch] for place in range(0, len(mine), per_batch)):
        losses = _losses(model, rows[batch.start : batch.stop : batch.step].to(model.device))
        for window, loss in zip(batch, losses, strict=True):
            new = length if window == 0 else stride
            end = starts[window] + length + 1
            nats[end - new : end] = loss[length - new :]
    return nats[: len(ids)]


def _windows(ids: torch.Tensor, length: int, stride: int) -> tuple[torch.Tensor, range]:
    """Windows (W, length + 1) that together predict every token but the first, and where they start.

    The last one is padded on the right, which no token before the padding sees.
    """
    num_windows = 1 + max(0, -(-(len(ids) - 1 - length) // stride))
    starts = range(0, num_windows * stride, stride)
    padded = F.pad(ids, (0, starts[-1] + length + 1 - len(ids)), value=int(ids[0]))
    return padded.unfold(0, length + 1, stride), starts


def _losses(model: PreTrainedModel, rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """-ln p of the last T tokens of each of the `rows` (B, T + 1), on the CPU: one (T,) after the other."""
    logits = model(input_ids=rows[:, :-1], use_cache=False).logits  # (B, T, V)
    for own, targets in zip(logits, rows[:, 1:], strict=True):  # one by one: in fp32 they need the most memory
        yield F.cross_entropy(own.float(), targets, reduction="none").double().cpu()
