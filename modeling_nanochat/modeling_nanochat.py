"""NanochatGPT: the whole model in one file, in the order the data flows.

A pre-norm decoder: RMSNorm without weights, rotary positions, RMSNorm on queries and keys, relu^2 MLP, untied
embedding and head, soft-capped logits. Shapes: B batch, T new tokens, S attended tokens, D hidden size, H query
heads, K key/value heads, d head size, V vocabulary.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import AutoModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    GradientCheckpointingLayer,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_nanochat import NanochatGPTConfig
from .generation_nanochat import Decoding, NanochatGPTGenerationMixin, current_decoding, is_bare

# Bytes of fp32 logits alive at once while training: what fits a CPU's cache, and what keeps a GPU busy.
LOSS_CHUNK_BYTES_CPU = 16 * 2**20
LOSS_CHUNK_BYTES_ACCELERATOR = 2**30
LARGEST_SAFE_EXPONENT = 60.0  # sums of exp(60) stay far below fp32's 3e38: no maximum has to be subtracted first
IGNORE_INDEX = -100  # label of a position without loss, as everywhere in transformers


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm over the last dimension, without weights."""
    return F.rms_norm(x, (x.size(-1),), eps=eps)


def rotary_angles(position_ids: torch.Tensor, config: NanochatGPTConfig, dtype: torch.dtype):
    """Cosines and sines (B, T, d/2) of the rotary angles of `position_ids` (B, T).

    Computed anew from the positions, in fp32: a buffer would have to survive meta devices and `.to(bfloat16)`.
    """
    d = config.head_dim
    exponents = torch.arange(0, d, 2, device=position_ids.device, dtype=torch.float32) / d
    frequencies = 1.0 / config.rope_theta**exponents  # base**-exponents would be rounded otherwise than elsewhere
    angles = position_ids[..., None].float() * frequencies
    rounded = dtype if config.rotary_dtype is None else getattr(torch, config.rotary_dtype)
    return angles.cos().to(rounded).to(dtype), angles.sin().to(rounded).to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the halves of each head by -theta. x: (B, T, heads, d); cos, sin: (B, T, d/2)."""
    x1, x2 = x.chunk(2, dim=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
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
    """Attention spelled out, for `output_attentions`. query (B, H, T, d), key and value (B, K, S, d)."""
    groups = query.size(1) // key.size(1)
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


def soft_cap(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    """cap x tanh(logits / cap), in fp32 (Gemma 2, arXiv 2408.00118)."""
    logits = logits.float()
    if cap is None:
        return logits
    return 2 * cap * torch.sigmoid(logits * (2 / cap)) - cap  # tanh by way of exp: three times as fast on a CPU


def cross_entropy_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, cap: float | None, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Summed cross-entropy of soft-capped `logits` (n, V) and its gradient by them (n, V), in the logits' dtype."""
    compute_dtype, logits = logits.dtype, logits.float()
    labelled = (targets != IGNORE_INDEX)[:, None]
    index = targets.clamp_min(0)[:, None]
    capped, slope = logits, 1.0
    if cap is not None:
        tanh = 1 - 2 / (torch.exp(logits * (2 / cap)) + 1)  # by way of exp: twice as fast on a CPU
        capped = cap * tanh
    if cap is None or cap > LARGEST_SAFE_EXPONENT:
        capped = capped - capped.amax(dim=-1, keepdim=True)
    exponentials = torch.exp(capped)
    sums = exponentials.sum(dim=-1, keepdim=True)
    loss = ((sums.log() - capped.gather(-1, index)) * labelled).sum()
    if not needs_gradient:
        return loss, None
    if cap is not None:
        slope = 1 - tanh.square()
    one_hot = torch.arange(logits.size(-1), device=logits.device) == index
    gradient = (exponentials / sums - one_hot.float()) * slope
    return loss, gradient.mul(labelled).to(compute_dtype)


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of the head's soft-capped logits, a chunk of tokens at a time.

    The gradients are computed in the forward pass, while a chunk's logits are there, so backward needs no logits:
    three matrix products in all where recomputation would take four (as in Liger Kernel, arXiv 2410.10989). Those that
    nobody wants, in evaluation or by a frozen weight, are left out.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, cap):
        """hidden (N, D), weight (V, D), targets (N,) with -100 where there is no loss; returns nats, a scalar."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        budget = LOSS_CHUNK_BYTES_CPU if device == "cpu" else LOSS_CHUNK_BYTES_ACCELERATOR
        chunk = max(1, budget // (4 * weight.size(0)))
        hidden_low, weight_low = hidden.to(dtype), weight.to(dtype)
        by_hidden, by_weight = ctx.needs_input_grad[:2]

        loss = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradients = []
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if by_weight else None
        for h, t in zip(hidden_low.split(chunk), targets.split(chunk), strict=True):
            chunk_loss, gradient = cross_entropy_and_gradient(h @ weight_low.T, t, cap, by_hidden or by_weight)
            loss = loss + chunk_loss
            if by_hidden:
                hidden_gradients.append(gradient @ weight_low)
            if by_weight:
                weight_gradient += gradient.T @ h
        ctx.save_for_backward(torch.cat(hidden_gradients) if by_hidden else None, weight_gradient)
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
    if not torch.is_grad_enabled():  # a parameter in `needs_input_grad` counts even then
        weight = weight.detach()
    return LinearCrossEntropy.apply(hidden, weight, targets, cap)


class ZeroInitLinear(nn.Linear):
    """A matrix that starts at zero; a class of its own because `_init_weights` tells modules apart by type."""


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

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        B, T, _ = hidden_states.shape
        query = self.q_proj(hidden_states).view(B, T, -1, self.head_dim)  # (B, T, H, d)
        key = self.k_proj(hidden_states).view(B, T, -1, self.head_dim)  # (B, T, K, d)
        value = self.v_proj(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, K, T, d)

        # Rotation first, norm second: the order that nanochat's checkpoints were trained with.
        eps = self.config.rms_norm_eps
        query = rms_norm(rotate(query, *position_embeddings), eps).transpose(1, 2)  # (B, H, T, d)
        key = rms_norm(rotate(key, *position_embeddings), eps).transpose(1, 2)  # (B, K, T, d)
        # Under autocast the angles are fp32; caches and flex attention want one dtype.
        query, key = query.to(value.dtype), key.to(value.dtype)

        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)  # (B, K, S, d)

        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )  # (B, T, H, d)
        return self.o_proj(mixed.reshape(B, T, -1)), weights


class NanochatGPTMLP(nn.Module):
    """W2 relu(W1 x)^2 (Primer, arXiv 2109.08668)."""

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = ZeroInitLinear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(hidden_states)).square())


class NanochatGPTDecoderLayer(GradientCheckpointingLayer):
    """One block: attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: NanochatGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn = NanochatGPTAttention(config, layer_idx)
        self.mlp = NanochatGPTMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        mixed, _ = self.self_attn(
            rms_norm(hidden_states, self.eps),
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(rms_norm(hidden_states, self.eps))

    def is_bare(self) -> bool:
        """Whether nothing was put around the block or its parts; their matrices may be anything."""
        parts = self._modules  # quicker than by attributes
        return (
            is_bare(self, NanochatGPTDecoderLayer)
            and is_bare(parts["self_attn"], NanochatGPTAttention)
            and is_bare(parts["mlp"], NanochatGPTMLP)
        )


class NanochatGPTPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of the architecture, and the initialization."""

    config_class = NanochatGPTConfig
    config: NanochatGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("NanochatGPTDecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"^lm_head\.",)  # where another head is wanted, or none
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012  (transformers reads it from the class)
        "hidden_states": NanochatGPTDecoderLayer,
        "attentions": NanochatGPTAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Embedding N(0, 1); head and output projections zero; other matrices uniform with std 1/sqrt(fan_in).

        With zero output projections every block starts as the identity, and with a zero head the first loss is
        exactly ln V. `init` leaves weights alone that a checkpoint has already filled.
        """
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=1.0)
        elif isinstance(module, ZeroInitLinear):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(3.0 / module.in_features)  # a uniform on [-b, b] has std b / sqrt(3)
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:  # in the classifiers alone
                init.zeros_(module.bias)

    def save_pretrained(self, *args, **kwargs) -> None:
        self.config.auto_map = dict(AUTO_MAP)  # all of it: transformers would enter no more than this class
        super().save_pretrained(*args, **kwargs)


class NanochatGPTModel(NanochatGPTPreTrainedModel):
    """The decoder without its head: token ids to normalized hidden states."""

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(NanochatGPTDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, D) of `input_ids` (B, T) or `inputs_embeds` (B, T, D), after `past_key_values`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        whole_rows = attention_mask is None and position_ids is None and past_key_values is None
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        causal_mask = None
        # Rows of one text each, from its start, need no mask in SDPA, and its flash kernels take none. transformers
        # knows that too, but under torch.compile neither in its version 5.17 nor with torch 2.11.
        if not (whole_rows and self.config._attn_implementation == "sdpa" and getattr(self.config, "is_causal", True)):
            causal_mask = create_causal_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,  # as given: with ours, every compiled row would pass for a packed one
            )
        positions = position_ids
        if positions is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            positions = (torch.arange(inputs_embeds.size(1), device=inputs_embeds.device) + seen).unsqueeze(0)
        eps = self.config.rms_norm_eps
        hidden_states = rms_norm(inputs_embeds, eps)
        angles = rotary_angles(positions, self.config, hidden_states.dtype)
        for layer in self.layers[: self.config.num_hidden_layers]:  # fewer where assisted decoding exits early
            hidden_states = layer(
                hidden_states,
                position_embeddings=angles,
                attention_mask=causal_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=rms_norm(hidden_states, eps), past_key_values=past_key_values)

    def decode(
        self,
        decoding: Decoding,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.LongTensor | None,
        past_key_values: DynamicCache,
    ) -> torch.Tensor:
        """`forward` of a single token a row (B, 1) where `can_decode`: the same products, with little around them.

        A matrix that is more than its weight (adapted, quantized, hooked) is called as everywhere. Returns hidden
        states (B, D).
        """
        B, eps = len(input_ids), self.config.rms_norm_eps
        hidden_states = rms_norm(self.embed_tokens(input_ids)[:, 0], eps)  # (B, D)
        if position_ids is None:
            position_ids = input_ids.new_full((1, 1), past_key_values.get_seq_length())
        cos, sin = rotary_angles(position_ids, self.config, hidden_states.dtype)  # (B, 1, d/2)
        cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, -sin), dim=-1)
        mask = None if attention_mask is None else attention_mask[:, None, None].bool()
        linear = decoding.linear
        for layer, past in zip(self.layers, past_key_values.layers, strict=True):
            attention, mlp, d = layer.self_attn, layer.mlp, layer.self_attn.head_dim
            normed = rms_norm(hidden_states, eps)
            query = linear(normed, attention.q_proj).view(B, -1, d)
            key = linear(normed, attention.k_proj).view(B, -1, d)
            value = linear(normed, attention.v_proj).view(B, -1, 1, d)  # (B, K, 1, d)
            H, K = query.size(1), key.size(1)
            heads = torch.cat((query, key), dim=1)  # (B, H + K, d)
            heads = torch.addcmul(heads * cos, heads.roll(d // 2, dims=-1), sin)  # `rotate` in fewer operations
            heads = rms_norm(heads, eps).to(value.dtype)
            key, value = decoding.update(past, heads[:, H:, None], value)  # (B, K, S, d)
            # The query heads that share a key head stand where several tokens would.
            query = heads[:, :H].view(B, K, -1, d)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
            hidden_states = hidden_states + linear(mixed.reshape(B, -1), attention.o_proj)
            activated = linear(rms_norm(hidden_states, eps), mlp.fc1).relu().square()
            hidden_states = hidden_states + linear(activated, mlp.fc2)
        return rms_norm(hidden_states, eps)


class NanochatGPTForCausalLM(NanochatGPTPreTrainedModel, NanochatGPTGenerationMixin):
    """NanochatGPT with its language-modeling head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012  (used only if tied by config)
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__(config)
        self.model = NanochatGPTModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = ZeroInitLinear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        skip_logits: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) in fp32, and the loss when `labels` (B, T) are given.

        Args:
            labels: the input ids themselves (they are shifted here), -100 where there is no loss. Labels already
                shifted go into `shift_labels` as well, as in all of transformers.
            logits_to_keep: compute logits for the last N positions only, or for the positions of a tensor.
            skip_logits: return the loss without logits. It is then computed a chunk of tokens at a time, so the logits
                of a whole batch never exist at once: less memory and faster. For training loops.
        """
        decoding = None if torch.compiler.is_compiling() else current_decoding.get()  # None outside of `generate`
        asked_for_more = (
            labels is not None
            or not isinstance(logits_to_keep, int)
            or any(value is not None and value is not False for value in kwargs.values())
        )
        inputs = input_ids, attention_mask, position_ids, past_key_values
        if decoding is not None and inputs_embeds is None and not asked_for_more and self.can_decode(*inputs):
            hidden_states = self.model.decode(decoding, *inputs)
            logits = soft_cap(decoding.linear(hidden_states, self.lm_head), self.config.final_logit_softcapping)
            return CausalLMOutputWithPast(logits=logits[:, None], past_key_values=past_key_values)
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        logits = loss = None
        if labels is not None and skip_logits:
            loss = self.loss_without_logits(hidden_states, labels, **kwargs)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = soft_cap(self.lm_head(hidden_states[:, kept]), self.config.final_logit_softcapping)
            if labels is not None:
                loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def can_decode(
        self,
        input_ids: torch.LongTensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.LongTensor | None,
        past_key_values: Cache | None,
    ) -> bool:
        """Whether `NanochatGPTModel.decode` does what its `forward` would do with these inputs.

        It does for one new token a row after a plain cache, and blocks that are what their classes say. Asked at every
        step: hooks, adapters and options may come and go between two of them.
        """
        config, model = self.config, self.model
        return (
            type(past_key_values) is DynamicCache
            and not past_key_values.offloading
            and len(past_key_values.layers) == len(model.layers) == config.num_hidden_layers
            and all(type(layer) is DynamicLayer and layer.is_initialized for layer in past_key_values.layers)
            and input_ids is not None
            and input_ids.shape[1:] == (1,)
            and (position_ids is None or position_ids.shape[1:] == (1,))
            and (attention_mask is None or attention_mask.shape[1:] == (past_key_values.get_seq_length() + 1,))
            and not torch.is_grad_enabled()
            and config._attn_implementation == "sdpa"  # which excludes output_attentions
            and not config.output_hidden_states
            and not (self.training and (config.attention_dropout or model.gradient_checkpointing))
            and is_bare(model, NanochatGPTModel)
            and all(map(NanochatGPTDecoderLayer.is_bare, model.layers))
        )

    def loss_without_logits(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Mean cross-entropy in nats over the labelled tokens, or their sum / `num_items_in_batch` if given."""
        if type(self.lm_head) not in (ZeroInitLinear, nn.Linear) or type(self.lm_head.weight) is not nn.Parameter:
            # An adapted or quantized head is more than its weight: go through its own forward.
            logits = soft_cap(self.lm_head(hidden_states), self.config.final_logit_softcapping)
            options = {"num_items_in_batch": num_items_in_batch, "shift_labels": shift_labels}
            return self.loss_function(logits, labels, self.config.vocab_size, **options)
        if shift_labels is None:
            shift_labels = F.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:]
        targets = shift_labels.reshape(-1).to(hidden_states.device)
        total = linear_cross_entropy(
            hidden_states.reshape(-1, hidden_states.size(-1)),
            self.lm_head.weight,
            targets,
            self.config.final_logit_softcapping,
        )
        return total / ((targets != IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch)


class NanochatGPTClassifier(NanochatGPTPreTrainedModel):
    """What the heads below share: transformers builds their decoder, by AutoModel."""

    def __init__(self, config: NanochatGPTConfig) -> None:
        # Not at import: the code of a local directory is loaded twice, for the config's class and for the model's.
        AutoModel.register(type(config), NanochatGPTModel, exist_ok=True)
        super().__init__(config)


class NanochatGPTForSequenceClassification(GenericForSequenceClassification, NanochatGPTClassifier):
    """NanochatGPT with a linear head on the last token that is no padding."""


class NanochatGPTForTokenClassification(GenericForTokenClassification, NanochatGPTClassifier):
    """NanochatGPT with a linear head on every token."""


class NanochatGPTForQuestionAnswering(GenericForQuestionAnswering, NanochatGPTClassifier):
    """NanochatGPT with a linear head that marks where an answer starts and ends."""


# What the Auto classes load from a directory, by the code in it.
AUTO_MAP = {
    "AutoConfig": "configuration_nanochat.NanochatGPTConfig",
    "AutoModel": "modeling_nanochat.NanochatGPTModel",
    "AutoModelForCausalLM": "modeling_nanochat.NanochatGPTForCausalLM",
    "AutoModelForSequenceClassification": "modeling_nanochat.NanochatGPTForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_nanochat.NanochatGPTForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_nanochat.NanochatGPTForQuestionAnswering",
}

# save_pretrained then writes this file and those that it imports beside the weights, for trust_remote_code to find.
NanochatGPTModel.register_for_auto_class("AutoModel")
NanochatGPTForCausalLM.register_for_auto_class("AutoModelForCausalLM")
NanochatGPTForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
NanochatGPTForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
NanochatGPTForQuestionAnswering.register_for_auto_class("AutoModelForQuestionAnswering")

__all__ = [
    "NanochatGPTConfig",
    "NanochatGPTForCausalLM",
    "NanochatGPTForQuestionAnswering",
    "NanochatGPTForSequenceClassification",
    "NanochatGPTForTokenClassification",
    "NanochatGPTModel",
    "NanochatGPTPreTrainedModel",
]
