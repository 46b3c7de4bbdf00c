"""Check by running it that a model is a causal LM."""

import torch
from transformers import PreTrainedModel

from recipes.utils.errors import InputError, in_one_line


@torch.no_grad()
def check_causal(model: PreTrainedModel, source: str) -> None:
    """Raise `InputError` unless what `model` predicts depends on earlier tokens alone.

    An encoder (BERT, XLNet) would see the tokens that it is to predict, and learn to copy them. Of the sixteen tokens
    of a row the later half is changed: what the model predicts in the earlier half must stay as it was.
    """
    length = max(2, min(16, getattr(model.config, "max_position_embeddings", None) or 16))
    row = (torch.arange(length, device=model.device) * 7 + 5)[None] % model.config.vocab_size  # (1, T)
    half = length // 2
    changed = torch.cat([row[:, :half], row[:, half:] // 2], dim=1)
    was_training = model.training
    try:
        model.train()(input_ids=row, use_cache=False)  # dropout of more than all is not noticed before
        model.eval()
        before, after = (model(input_ids=each, use_cache=False).logits[:, :half] for each in (row, changed))
    except Exception as error:  # models of other kinds, or of sizes that do not fit, raise anything
        raise InputError(f"{source} cannot be run as a causal LM: {in_one_line(error)}") from None
    model.train(was_training)
    if empty := next((name for name, parameter in model.named_parameters() if parameter.numel() == 0), None):
        raise InputError(f"{source} gives a model without weights in {empty}: one of its sizes is 0.")
    if not before.isfinite().all():  # (1, T / 2, V)
        raise InputError(f"{source} predicts NaN: its weights are damaged, or a number in its configuration.")
    # Of 127 architectures of transformers, random and in fp32, causal ones differ by 7e-6 at most, others by 4e-4.
    tolerance = max(1e-4, 4 * torch.finfo(before.dtype).eps)
    if (before - after).abs().max() > tolerance * before.abs().max():
        raise InputError(f"{source} is not a causal LM: a {type(model).__name__} reads the tokens it is to predict.")
