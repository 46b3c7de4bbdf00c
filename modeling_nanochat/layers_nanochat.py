"""The layers of NanochatGPT: attention, MLP, and the block that holds both, in the order the data flows.

Shapes: B batch, T new tokens, S attended tokens (cached and new), D hidden size, H query heads, K key/value heads,
d head size, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_nanochat import VALUE_GATE_CHANNELS, NanochatGPTConfig


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm over the last dimension, without weights."""
    return F.rms_norm(x, (x.size(-1),), eps=eps)


def exact_rotary_angles(position_ids: torch.Tensor, config: NanochatGPTConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (..., d/2) in fp32 of the rotary angles of `position_ids` (...)."""
    d = config.head_dim
    exponents = torch.arange(0, d, 2, device=position_ids.device, dtype=torch.float32) / d  # (d/2,)
    frequencies = 1.0 / config.rope_theta**exponents  # not base**-exponents, which rounds differently from nanochat
    angles = position_ids[..., None].float() * frequencies  # (..., d/2)
    return angles.cos(), angles.sin()


def round_angles(
    angles: tuple[torch.Tensor, torch.Tensor], config: NanochatGPTConfig, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines in `dtype`, rounded to the one of the config first, if it has any."""
    cos, sin = angles
    rounded = dtype if config.rotary_dtype is None else getattr(torch, config.rotary_dtype)
    return cos.to(rounded).to(dtype), sin.to(rounded).to(dtype)


def rotary_angles(position_ids: torch.Tensor, config: NanochatGPTConfig, dtype: torch.dtype):
    """Cosines and sines (B, T, d/2) of the rotary angles of `position_ids` (B, T), computed in fp32."""
    return round_angles(exact_rotary_angles(position_ids, config), config, dtype)


class RotaryTable(nn.Module):
    """Rotary angles of tokens, looked up where their positions are the first ones, as in training; else computed.

    Computed in a compiled step, they would be computed anew in each kernel that rotates: for all rows, heads and
    layers, forward and backward. The table is never saved. It is filled anew, in fp32, wherever it is moved or cast
    to, so `to_empty` leaves no garbage in it, and `.to(bfloat16)` does not round it.
    """

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.max_position_embeddings, config.head_dim // 2
        self.register_buffer("cos", torch.empty(shape, dtype=torch.float32), persistent=False)
        self.register_buffer("sin", torch.empty(shape, dtype=torch.float32), persistent=False)
        self.fill()

    def fill(self) -> None:
        """Compute the table on the device where it is."""
        with torch.inference_mode(False), torch.no_grad():  # training could not use tensors of inference mode
            self.cos, self.sin = exact_rotary_angles(torch.arange(len(self.cos), device=self.cos.device), self.config)
        self.base = self.config.rope_theta

    def _apply(self, *args, **kwargs) -> "RotaryTable":
        """Behind `.to()`, `.half()`, `.cuda()`, `to_empty` and the like; private, but torch's RNNs override it too."""
        super()._apply(*args, **kwargs)
        self.fill()
        return self

    def forward(
        self, hidden_states: torch.Tensor, position_ids: torch.Tensor | None, seen: int | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (B or 1, T, d/2) for hidden_states (B, T, D).

        Positions are `position_ids` (B, T), or if None those that follow `seen` tokens.
        """
        T, dtype, device = hidden_states.size(1), hidden_states.dtype, hidden_states.device
        if position_ids is None and self.holds(T, seen, device):
            return round_angles((self.cos[None, :T], self.sin[None, :T]), self.config, dtype)
        if position_ids is None:
            position_ids = (torch.arange(T, device=device) + seen).unsqueeze(0)
        return rotary_angles(position_ids, self.config, dtype)

    def holds(self, T: int, seen: int | torch.Tensor, device: torch.device) -> bool:
        """Whether the table has the angles of `T` tokens after `seen` ones, on their device and by today's config."""
        return (
            not torch.compiler.is_exporting()  # an exported program shall take rows of any length
            and isinstance(seen, int)
            and seen == 0
            and len(self.cos) >= T
            and self.cos.device == device
            and self.base == self.config.rope_theta
        )


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the halves of each head by -theta, as nanochat does. x: (B, T, heads, d); cos, sin: (B, T, d/2)."""
    x1, x2 = x.chunk(2, dim=-1)  # (B, T, heads, d/2): dimension i is paired with i + d/2
    cos, sin = cos[:, :, None], sin[:, :, None]  # (B, T, 1, d/2): the same for all heads
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out, for `output_attentions`. query (B, H, T, d); key, value (B, K, S, d)."""
    groups = query.size(1) // key.size(1)  # query heads that share one key head
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)  # (B, H, S, d)
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask  # 0 where attended, the most negative number elsewhere
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights  # (B, T, H, d)


class Linear(nn.Linear):
    """A linear layer that computes in the precision of its input, whatever its weight is kept in.

    Training may keep weights in fp32 for the optimizer and hidden states in bf16 (`NanochatGPTModel.compute_dtype`).
    Projections to queries, keys and values are torch's own, which bitsandbytes looks for; training makes them these.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if weight.dtype != x.dtype:
            weight = weight.to(x.dtype)
        return F.linear(x, weight, self.bias)


# Classes, because `_init_weights` tells modules apart by type.
class ZeroInitLinear(Linear):
    """A linear layer that starts at zero."""


class MLPInput(Linear):
    """The first matrix of an MLP; starts smaller in 2026."""


class Head(Linear):
    """Hidden states to logits; starts at zero in 2025, and just above it in 2026."""


class Gate(Linear):
    """A few channels of a token's state to the logits of a sigmoid; starts slightly open."""


class ValueEmbedding(nn.Embedding):
    """A table (V, K x d) of what each token adds to the values of one layer."""


def add_gated(value: torch.Tensor, gate: torch.Tensor, value_embedding: torch.Tensor) -> torch.Tensor:
    """value (..., K, d) + 3 sigmoid(gate) x value_embedding (..., K x d), one gate a head (arXiv 2410.17897)."""
    gate = torch.sigmoid(gate)[..., None].to(value.dtype)  # (..., K, 1)
    return torch.addcmul(value, gate, value_embedding.view(value.shape).to(value.dtype), value=3)


class NanochatGPTAttention(nn.Module):
    """Causal self-attention with rotary positions and normalized queries and keys."""

    def __init__(self, config: NanochatGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        kv_size = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = ZeroInitLinear(config.hidden_size, config.hidden_size, bias=False)
        self.sliding_window = config.sliding_window if config.is_sliding(layer_idx) else None
        if layer_idx in config.value_layers:
            self.ve_gate = Gate(VALUE_GATE_CHANNELS, config.num_key_value_heads, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        value_embedding: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mix hidden_states (B, T, D); value_embedding (B, T, K x d) only in layers that have one."""
        B, T, _ = hidden_states.shape
        query = self.q_proj(hidden_states).view(B, T, -1, self.head_dim)  # (B, T, H, d)
        key = self.k_proj(hidden_states).view(B, T, -1, self.head_dim)  # (B, T, K, d)
        value = self.v_proj(hidden_states).view(B, T, -1, self.head_dim)  # (B, T, K, d)
        if value_embedding is not None:
            value = add_gated(value, self.ve_gate(hidden_states[..., :VALUE_GATE_CHANNELS]), value_embedding)
        value = value.transpose(1, 2)  # (B, K, T, d)

        # Rotation first, norm second: the order that nanochat's checkpoints were trained with. Normalized queries and
        # keys bound the attention scores, which keeps training stable (QK norm).
        eps = self.config.rms_norm_eps
        query = rms_norm(rotate(query, *position_embeddings), eps).transpose(1, 2)  # (B, H, T, d)
        key = rms_norm(rotate(key, *position_embeddings), eps).transpose(1, 2)  # (B, K, T, d)
        if self.config.query_key_scale != 1.0:  # sharper attention, split between the two
            query, key = query * self.config.query_key_scale, key * self.config.query_key_scale
        # Under autocast the angles are fp32, and so are their products; caches and flex attention need one dtype.
        query, key = query.to(value.dtype), key.to(value.dtype)

        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)  # (B, K, S, d)

        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attention_dropout if self.training else 0.0
        if self.sliding_window is not None:
            kwargs["sliding_window"] = self.sliding_window  # for kernels that need no mask for it, as flash attention
        mixed, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )  # (B, T, H, d)
        return self.o_proj(mixed.reshape(B, T, -1)), weights


class NanochatGPTMLP(nn.Module):
    """MLP with squared ReLU: W2 relu(W1 x)^2 (Primer, arXiv 2109.08668)."""

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__()
        self.fc1 = MLPInput(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = ZeroInitLinear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(hidden_states)).square())


class NanochatGPTDecoderLayer(GradientCheckpointingLayer):
    """Block: attention and MLP, each applied to the normalized stream and added to it (pre-norm)."""

    def __init__(self, config: NanochatGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn = NanochatGPTAttention(config, layer_idx)
        self.mlp = NanochatGPTMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        x0: torch.Tensor | None = None,
        resid_lambda: torch.Tensor | None = None,
        x0_lambda: torch.Tensor | None = None,
        value_embedding: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Update the stream, hidden_states (B, T, D), after the layer's scalars, if any, have mixed x0 into it.

        What needs a gradient must be positional, for reentrant gradient checkpointing. The scalars are the layer's
        own: if it looked them up by its index, torch.compile would compile layers one by one where it cannot take the
        whole model.
        """
        if resid_lambda is not None:  # scalars, so the stream keeps its precision
            hidden_states = resid_lambda * hidden_states + x0_lambda * x0
        mixed, _ = self.self_attn(rms_norm(hidden_states, self.eps), value_embedding=value_embedding, **kwargs)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(rms_norm(hidden_states, self.eps))

    def is_unmodified(self) -> bool:
        """Whether the block, its attention and its MLP are unhooked and unpatched; their matrices may be anything."""
        parts = self._modules  # private, but faster than nn.Module's attribute lookup
        return (
            is_unmodified(self, NanochatGPTDecoderLayer)
            and is_unmodified(parts["self_attn"], NanochatGPTAttention)
            and is_unmodified(parts["mlp"], NanochatGPTMLP)
        )


def is_unmodified(module: nn.Module, kind: type[nn.Module] | None = None) -> bool:
    """Whether `module` is exactly a `kind` (any class if None), without hooks and without a patched `forward`."""
    return (
        (kind is None or type(module) is kind)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and "forward" not in vars(module)
    )
