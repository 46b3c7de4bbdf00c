"""The loss: cross-entropy of soft-capped logits that are never held in memory all at once."""

import torch
from torch.autograd.function import once_differentiable

# Bytes of fp32 logits that exist at once in training: small enough for a CPU's cache, large enough to keep a GPU busy.
LOSS_CHUNK_BYTES_CPU = 16 * 2**20
LOSS_CHUNK_BYTES_ACCELERATOR = 2**30
LOSS_CHUNK_BYTES_NOT_COMPILED = 2**28  # on a GPU: softmax and gradient are then written out, nine times these bytes
# Of more chunks Inductor computes all logits first, and they wait for their turn: 32 took four times the memory of 8.
MOST_COMPILED_CHUNKS = 8
LARGEST_SAFE_EXPONENT = 60.0  # sums of exp(60) stay far below fp32's 3e38, so softmax need not subtract the maximum
IGNORE_INDEX = -100  # label of a position without loss, as everywhere in transformers


def soft_cap(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    """cap x tanh(logits / cap), in fp32 (Gemma 2, arXiv 2408.00118): keeps logits within (-cap, cap)."""
    logits = logits.float()
    if cap is None:
        return logits
    return 2 * cap * torch.sigmoid(logits * (2 / cap)) - cap  # tanh(z) = 2 sigmoid(2z) - 1: 3x as fast on a CPU


def cross_entropy_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, cap: float | None, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Summed cross-entropy of soft-capped `logits` (n, V), and its gradient w.r.t. them (n, V) in their dtype.

    With p = softmax(capped), the gradient is (p - one_hot(target)) x d capped / d logits, and zero
    for tokens without a label.
    """
    compute_dtype, logits = logits.dtype, logits.float()
    labelled = (targets != IGNORE_INDEX)[:, None]  # (n, 1)
    index = targets.clamp_min(0)[:, None]  # (n, 1); gather needs a valid index even for tokens without a label
    capped, slope = logits, 1.0
    if cap is not None:
        tanh = 1 - 2 / (torch.exp(logits * (2 / cap)) + 1)  # 2x as fast as torch.tanh on a CPU
        capped = cap * tanh
    if cap is None or cap > LARGEST_SAFE_EXPONENT:
        capped = capped - capped.amax(dim=-1, keepdim=True)
    exponentials = torch.exp(capped)
    sums = exponentials.sum(dim=-1, keepdim=True)  # (n, 1)
    loss = ((sums.log() - capped.gather(-1, index)) * labelled).sum()
    if not needs_gradient:
        return loss, None
    if cap is not None:
        slope = 1 - tanh.square()  # derivative of cap x tanh(z / cap)
    one_hot = torch.arange(logits.size(-1), device=logits.device) == index
    gradient = (exponentials / sums - one_hot.float()) * slope
    return loss, gradient.mul(labelled).to(compute_dtype)


def chunk_size(num_tokens: int, vocab_size: int, device: str) -> int:
    """Tokens whose logits, of 4 bytes, are to exist at once on a device of this type."""
    if device == "cpu":
        return max(1, LOSS_CHUNK_BYTES_CPU // (4 * vocab_size))
    if not torch.compiler.is_compiling():
        return max(1, LOSS_CHUNK_BYTES_NOT_COMPILED // (4 * vocab_size))
    return max(1, LOSS_CHUNK_BYTES_ACCELERATOR // (4 * vocab_size), -(-num_tokens // MOST_COMPILED_CHUNKS))


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of the head's soft-capped logits, computed a chunk of tokens at a time.

    The logits (N, V) of a whole batch would be the largest tensor of training by far; here only a chunk of them exists
    at once. Gradients are computed in the forward pass, while a chunk's logits are at hand, so that backward needs no
    logits: three matrix products in all, where recomputation takes four (as in Liger Kernel, arXiv 2410.10989).
    Gradients that are not needed (in evaluation, or for frozen weights) are skipped.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, cap):
        """hidden (N, D), weight (V, D), targets (N,), -100 for tokens without a label. Returns nats."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        chunk = chunk_size(hidden.size(0), weight.size(0), device)
        hidden_low, weight_low = hidden.to(dtype), weight.to(dtype)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]

        loss = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradients = []
        # fp32, because it is summed over chunks: bf16 would lose small contributions.
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for h, t in zip(hidden_low.split(chunk), targets.split(chunk), strict=True):
            logits = h @ weight_low.T  # (chunk, V)
            chunk_loss, gradient = cross_entropy_and_gradient(logits, t, cap, wants_hidden or wants_weight)
            loss = loss + chunk_loss
            if wants_hidden:
                hidden_gradients.append(gradient @ weight_low)  # (chunk, D)
            if wants_weight:
                weight_gradient += gradient.T @ h  # (V, D)
        ctx.save_for_backward(torch.cat(hidden_gradients) if wants_hidden else None, weight_gradient)
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        hidden_gradient, weight_gradient = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (
            None if hidden_gradient is None else (hidden_gradient * grad_output).to(hidden_dtype),
            None if weight_gradient is None else (weight_gradient * grad_output).to(weight_dtype),
            None,
            None,
        )


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, cap: float | None
) -> torch.Tensor:
    """Sum over labelled tokens of -log softmax(soft_cap(hidden @ weight.T))[target], in nats. hidden (N, D)."""
    if not torch.is_grad_enabled():  # `needs_input_grad` is True for a parameter even then
        weight = weight.detach()
    return LinearCrossEntropy.apply(hidden, weight, targets, cap)
