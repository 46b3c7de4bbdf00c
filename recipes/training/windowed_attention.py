"""Attention within windows without a mask, by the flash attention that torch itself brings.

SDPA reads a mask of T x T for layers with windows, which rules its flash kernels out and makes it compute the whole
square: of windows of T/4, more than twice what they need. `varlen_attn` passes the window to the kernel instead.
"""

from functools import cache

import torch
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

WINDOWED_SDPA = "windowed_sdpa"  # transformers looks for all that has "flash" in its name on the Hub


def windowed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Flash attention for windows of whole rows, else SDPA. query (B, H, T, d); key, value (B, K, S, d)."""
    whole_rows = attention_mask is None and query.size(2) == key.size(2)  # no padding, nothing cached
    if sliding_window is not None and whole_rows:
        return attend_within_window(query, key, value, sliding_window, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def attend_within_window(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, scaling: float | None
) -> torch.Tensor:
    """Causal attention (B, T, H, d) of each token to the last `window` ones with itself, in 16 bits."""
    B, H, T, d = query.shape
    ends = torch.arange(0, (B + 1) * T, T, dtype=torch.int32, device=query.device)  # of rows laid end to end
    rows = (x.transpose(1, 2).reshape(B * T, -1, d) for x in (query, key, value))
    # The kernel counts the tokens to the left, without the one at hand.
    mixed = varlen_attn(
        *rows, ends, ends, T, T, scale=scaling, window_size=(window - 1, 0), enable_gqa=key.size(1) != H
    )
    return mixed.view(B, T, H, d)


def windowed_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *args,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs,
) -> torch.Tensor | None:
    """None for whole rows, which `windowed_sdpa` needs no mask for; else that of SDPA."""
    if allow_is_causal_skip and attention_mask is None and q_length == kv_length:
        return None
    kwargs |= {"attention_mask": attention_mask, "allow_is_causal_skip": allow_is_causal_skip}
    return sdpa_mask(batch_size, q_length, kv_length, *args, **kwargs)


AttentionInterface.register(WINDOWED_SDPA, windowed_sdpa)
AttentionMaskInterface.register(WINDOWED_SDPA, windowed_mask)


@cache
def works_on(device: torch.device, head_dim: int) -> bool:
    """Whether this card computes windows and their gradients as SDPA does with a mask. Tried once, on few tokens."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = (2, 4, 256, head_dim), (2, 2, 256, head_dim), (2, 2, 256, head_dim)
    inputs = [torch.randn(shape, generator=generator, device=device) for shape in shapes]
    places = torch.arange(256, device=device)
    age = places[:, None] - places
    mask = (age >= 0) & (age < 64)
    try:
        found = _with_gradients(lambda *x: attend_within_window(*x, 64, None), inputs, torch.bfloat16)
    except Exception:  # torch was built without flash attention, or not for this card
        return False
    expected = _with_gradients(
        lambda *x: F.scaled_dot_product_attention(*x, mask, enable_gqa=True).transpose(1, 2), inputs, torch.float32
    )
    return all(torch.allclose(a.float(), b, atol=0.05, rtol=0.05) for a, b in zip(found, expected, strict=True))


def _with_gradients(attend, inputs: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    inputs = [x.to(dtype).requires_grad_() for x in inputs]
    with torch.enable_grad():
        mixed = attend(*inputs)
        return [mixed, *torch.autograd.grad(mixed.float().square().mean() * mixed.numel() / 100, inputs)]
