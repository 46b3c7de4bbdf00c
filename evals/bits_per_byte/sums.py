"""Nats and bytes of rows of tokens, as training measures them on its validation rows."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from evals.metrics.bits_per_byte.formula import bits_per_byte

__all__ = ["bits_per_byte", "sum_nats_and_bytes"]

IGNORE_INDEX = -100


@torch.no_grad()
def sum_nats_and_bytes(
    model: PreTrainedModel, batches: Iterable[torch.Tensor], byte_lengths: torch.Tensor
) -> torch.Tensor:
    """Nats of all predicted tokens and the UTF-8 bytes they stand for, as a float64 tensor (2,) on the CPU.

    Args:
        model: any transformers causal LM; it is left in the mode it was in.
        batches: token ids (B, T + 1); the last T of each row are predicted.
        byte_lengths: bytes of each token id (V,), 0 for special tokens, whose nats and bytes are not counted
            (`tokenizer.encode.token_byte_lengths`).

    Sums over batches and processes can be added; `bits_per_byte` turns them into the figure.
    """
    was_training = model.training
    model.eval()
    totals = torch.zeros(2, dtype=torch.float64)
    byte_lengths = byte_lengths.to(model.device)
    for tokens in batches:
        tokens = tokens.to(model.device)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        num_bytes = byte_lengths[targets]  # (B, T)
        labels = targets.masked_fill(num_bytes == 0, IGNORE_INDEX)
        if num_bytes.sum() == 0:
            continue
        options = {"skip_logits": True} if hasattr(model, "loss_without_logits") else {}
        # With num_items_in_batch = 1 the loss is the sum over the labelled tokens.
        nats = model(
            input_ids=inputs, labels=labels, shift_labels=labels, num_items_in_batch=1, use_cache=False, **options
        ).loss
        totals += torch.tensor([nats.item(), num_bytes.sum().item()], dtype=torch.float64)
    model.train(was_training)
    return totals
