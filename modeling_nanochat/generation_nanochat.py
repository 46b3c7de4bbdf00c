"""Fast decoding: a KV cache that grows in place, and a fast path for the forward pass of one new token.

`generate`, its options, its caches and the inputs of each step are transformers' own. While `generate` runs,
`current_decoding` holds preallocated keys and values and, on a CPU, weights packed for oneDNN. The model's forward
pass uses them in its fast path (`NanochatGPTModel.decode`) where it can. This state is dropped when `generate`
returns, so weights that change later and caches that are copied or saved are never affected.

The last class is the text-generation pipeline.
"""

from collections.abc import Callable
from contextvars import ContextVar
from copy import copy
from functools import partial, wraps

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation import GenerationMixin
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.text_generation import ReturnType, TextGenerationPipeline
from transformers.utils.chat_template_utils import Chat

from .cache_nanochat import starts_of_texts
from .configuration_nanochat import VALUE_GATE_CHANNELS
from .layers_nanochat import Linear, add_gated, is_unmodified, rms_norm, rotary_angles

END_OF_TURN = "<|assistant_end|>"
SPARE_TOKENS = 256  # preallocated beyond the tokens that a cache holds already
PLAIN_FORWARDS = nn.Linear.forward, Linear.forward
SINGLE_TOKEN_OPTIONS = {"position_ids", "use_cache", "logits_to_keep"}


class Decoding:
    """State shared by the steps of one call of `generate`."""

    def __init__(self) -> None:
        self.preallocated: dict[DynamicLayer, PreallocatedLayer] = {}
        self.packed: dict[nn.Module, tuple] = {}  # (weight, its version counter, its packed copy or None)
        self.floats: dict[nn.Parameter, tuple] = {}  # (its version counter, its numbers)

    def update(self, layer: DynamicLayer, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the key and value of one token (B, K, 1, d) to `layer`; return all of them, (B, K, S, d) each.

        Same result as `layer.update`, which copies the whole cache for every token (torch.cat). A layer with a window
        returns what the window holds.
        """
        if key.shape[:2] != layer.keys.shape[:2] or key.dtype != layer.keys.dtype:
            return layer.update(key, value)  # raises transformers' own error
        preallocated = self.preallocated.get(layer)
        if preallocated is None or not preallocated.has_room(layer):
            preallocated = self.preallocated[layer] = PreallocatedLayer(layer)
        return preallocated.append(layer, key, value)

    def linear(self, x: torch.Tensor, matrix: nn.Module) -> torch.Tensor:
        """`matrix(x)` for one token per row: x (B, D). Uses the weight directly if `matrix` is a plain linear layer.

        In fp32 on a CPU a product of several rows is faster with a copy of the weight that is packed for oneDNN;
        `F.linear` would pack it again at every call. torch.compile does the same with the same private operators.
        """
        parameters = matrix._parameters  # private, but faster than nn.Module's attribute lookup
        weight = parameters.get("weight")
        if (
            weight is None
            or weight.dtype != x.dtype
            or parameters.get("bias") is not None
            or type(matrix).forward not in PLAIN_FORWARDS
            or not is_unmodified(matrix)
        ):
            return matrix(x[:, None])[:, 0]  # adapted, quantized, parametrized or hooked: call it with (B, 1, D)
        if x.size(0) == 1:  # one row reads each weight once, packed or not
            return F.linear(x, weight)
        packed_weight, version, packed = self.packed.get(matrix, (None, None, None))
        if weight is not packed_weight or weight._version != version:  # `_version` counts in-place changes
            packed = pack(weight, rows=x.size(0))
            self.packed[matrix] = weight, weight._version, packed
        if packed is None:
            return F.linear(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")

    def as_floats(self, vector: nn.Parameter) -> list[float]:
        """`vector` as Python floats: as a factor of an operation they save one on a tiny tensor."""
        version, numbers = self.floats.get(vector, (None, None))
        if vector._version != version:
            numbers = vector.tolist()
            self.floats[vector] = vector._version, numbers
        return numbers


class PreallocatedLayer:
    """Keys and values of one cache layer in buffers with spare room, so that appending a token copies only itself."""

    def __init__(self, layer: DynamicLayer) -> None:
        self.views = layer.keys, layer.values  # what `layer` held after the last update
        self.end = layer.keys.size(2)
        self.capacity = self.end + SPARE_TOKENS
        self.keys, self.values = map(self.with_room, self.views)

    def with_room(self, states: torch.Tensor) -> torch.Tensor:
        B, K, S, d = states.shape
        roomy = states.new_empty(B, K, self.capacity, d)
        roomy[:, :, :S] = states
        return roomy

    def has_room(self, layer: DynamicLayer) -> bool:
        """Whether there is spare room, and nobody has cropped, reordered or moved `layer` since the last update."""
        keys, values = self.views
        return layer.keys is keys and layer.values is values and self.end < self.capacity

    def append(self, layer: DynamicLayer, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one more token (B, K, 1, d), make `layer` a view of what it keeps, and return what the token sees.

        Without a window both are all tokens so far, (B, K, S + 1, d). With one, the token sees the window with
        itself in it, and the layer keeps one token less for the next, or all of them while it records its past.
        """
        self.keys.narrow(2, self.end, 1).copy_(key)
        self.values.narrow(2, self.end, 1).copy_(value)
        self.end += 1
        if type(layer) is DynamicLayer:
            layer.keys, layer.values = self.views = self.last(self.end)
            return self.views
        layer.cumulative_length += 1
        kept = layer.keys.size(2) + 1 if layer.record_past else layer.sliding_window - 1
        layer.keys, layer.values = self.views = self.last(kept)
        return self.last(layer.sliding_window)

    def last(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the last `count` keys and values, or of all if there are fewer."""
        count = min(count, self.end)
        start = self.end - count
        return self.keys.narrow(2, start, count), self.values.narrow(2, start, count)


def can_append(layer: CacheLayerMixin) -> bool:
    """Whether `Decoding.update` can take the place of the `update` of this layer of a cache."""
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized


def pack(weight: torch.Tensor, rows: int) -> torch.Tensor | None:
    """A copy of `weight` packed for products of `rows` rows; None unless it is a plain fp32 parameter on a CPU."""
    if (
        weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or type(weight) is not nn.Parameter  # torchao's quantized weights are subclasses
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


current_decoding: ContextVar[Decoding | None] = ContextVar("current_decoding", default=None)


class FastDecodingMixin:
    """The fast path of `NanochatGPTModel`."""

    def decode(
        self,
        decoding: Decoding,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.LongTensor | None,
        past_key_values: DynamicCache,
    ) -> torch.Tensor:
        """Fast `forward` of one new token per row, input_ids (B, 1); only valid where `can_decode` is True.

        Computes the same matrix products with less Python and fewer small operations around them. Linear layers that
        are adapted, quantized or hooked are called as usual. Returns hidden states (B, D).
        """
        B, config = len(input_ids), self.config
        eps, seen = config.rms_norm_eps, self.tokens_seen(past_key_values)
        hidden_states = rms_norm(self.in_compute_dtype(self.embed_tokens(input_ids)), eps)  # (B, 1, D)
        if config.smear:
            starts = starts_of_texts(1, seen, attention_mask, position_ids)
            past = past_key_values.layers[config.num_hidden_layers]
            hidden_states = self.smear(hidden_states, starts, partial(decoding.update, past))
        hidden_states = hidden_states[:, 0]  # (B, D)
        if config.residual_scalars:
            scales = decoding.as_floats(self.resid_lambdas)
            shares = (self.x0_lambdas[:, None, None].to(hidden_states.dtype) * hidden_states).unbind()  # (B, D) each
        if position_ids is None:
            position_ids = input_ids.new_full((1, 1), seen)
        cos, sin = rotary_angles(position_ids, self.config, hidden_states.dtype)  # (B, 1, d/2)
        cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, -sin), dim=-1)
        mask = None if attention_mask is None else attention_mask[:, None, None].bool()
        linear, halfway, window_mask = decoding.linear, None, None
        for i, (layer, past) in enumerate(zip(self.layers, past_key_values.layers, strict=False)):
            attention, mlp, d = layer.self_attn, layer.mlp, layer.self_attn.head_dim
            if config.residual_scalars:
                hidden_states = torch.add(shares[i], hidden_states, alpha=scales[i])
            normed = rms_norm(hidden_states, eps)
            query = linear(normed, attention.q_proj).view(B, -1, d)  # (B, H, d)
            key = linear(normed, attention.k_proj).view(B, -1, d)  # (B, K, d)
            value = linear(normed, attention.v_proj).view(B, -1, d)  # (B, K, d)
            if config.value_embeddings and "ve_gate" in attention._modules:
                gate = linear(normed[:, :VALUE_GATE_CHANNELS], attention.ve_gate)
                value = add_gated(value, gate, self.value_embeds[str(i)](input_ids))
            H, K = query.size(1), key.size(1)
            heads = torch.cat((query, key), dim=1)  # (B, H + K, d)
            heads = torch.addcmul(heads * cos, heads.roll(d // 2, dims=-1), sin)  # `rotate` in fewer operations
            heads = rms_norm(heads, eps).to(value.dtype)
            if config.query_key_scale != 1.0:
                heads = heads * config.query_key_scale
            key, value = decoding.update(past, heads[:, H:, None], value[:, :, None])  # (B, K, S, d)
            window, attended = attention.sliding_window, mask
            if window is not None and key.size(2) > window:  # in a cache without windows
                key, value = key[:, :, -window:], value[:, :, -window:]
            if mask is not None and key.size(2) <= seen:  # one that keeps a window
                if window_mask is None or window_mask.size(-1) != key.size(2):
                    window_mask = mask[..., -key.size(2) :]
                attended = window_mask
            # Grouped-query attention without repeated keys: query heads that share a key head take the token axis.
            query = heads[:, :H].view(B, K, -1, d)  # (B, K, H / K, d)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attended, scale=attention.scaling)
            hidden_states = hidden_states + linear(mixed.reshape(B, -1), attention.o_proj)
            activated = linear(rms_norm(hidden_states, eps), mlp.fc1).relu().square()
            hidden_states = hidden_states + linear(activated, mlp.fc2)
            if i == self.backout_layer:
                halfway = hidden_states
        if halfway is not None:
            hidden_states = hidden_states.sub(halfway, alpha=decoding.as_floats(self.backout_lambda)[0])
        return rms_norm(hidden_states, eps)


class NanochatGPTGenerationMixin(GenerationMixin):
    """transformers' `generate`, with a fast path for the step that takes nearly all of its time."""

    @wraps(GenerationMixin.generate)
    def generate(self, *args, **kwargs):
        token = current_decoding.set(Decoding())
        try:
            return super().generate(*args, **kwargs)
        finally:
            current_decoding.reset(token)

    @property
    def init_continuous_batching(self) -> Callable:
        """transformers' own, for models without smear: a paged cache cannot hold the embeddings that smear needs.

        Without this attribute `transformers serve --continuous-batching` generates one request after the other.
        """
        if self.config.smear:
            raise AttributeError("models with smear have no continuous batching")
        return super().init_continuous_batching

    def generate_batch(self, *args, **kwargs):
        if self.config.smear:
            raise ValueError("models with smear have no continuous batching: use generate() with a padded batch")
        return super().generate_batch(*args, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs,
    ) -> dict:
        """Inputs of the next forward pass. For a single token: the same as transformers', built faster."""
        per_layer_inputs = kwargs.pop("per_layer_inputs", None)  # of `inputs_embeds`, which come first
        if (
            next_sequence_length == 1
            and not is_first_iteration
            and type(past_key_values) is DynamicCache
            and kwargs.keys() <= SINGLE_TOKEN_OPTIONS
            and input_ids.device == self.lm_head.weight.device
        ):
            inputs = {"input_ids": input_ids[:, -1:], "past_key_values": past_key_values, **kwargs}
            if inputs.get("position_ids") is not None:
                inputs["position_ids"] = inputs["position_ids"][:, -1:]
            return inputs if attention_mask is None else inputs | {"attention_mask": attention_mask}
        inputs = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if per_layer_inputs is not None and inputs.get("inputs_embeds") is not None:
            inputs["per_layer_inputs"] = per_layer_inputs[:, -inputs["inputs_embeds"].size(1) :]
        return inputs


class NanochatGPTTextPipeline(TextGenerationPipeline):
    """`pipeline("text-generation")` that returns text without special tokens to tokenizers with a `response_template`.

    With such a template transformers keeps special tokens in everything it returns, because it parses replies by them.
    Here they are kept only where it does parse: the assistant message at the end of a full conversation.
    """

    def postprocess(
        self, model_outputs: dict, return_type: ReturnType = ReturnType.FULL_TEXT, **options
    ) -> list[dict]:
        pipeline, prompt = self, model_outputs["prompt_text"]
        continues_message = options.get("continue_final_message")  # then the text is appended to the last message
        if continues_message is None and isinstance(prompt, Chat):
            continues_message = prompt.messages[-1]["role"] == "assistant"
        is_parsed = return_type == ReturnType.FULL_TEXT and isinstance(prompt, Chat) and not continues_message
        if END_OF_TURN in self.tokenizer.get_added_vocab() and not is_parsed:  # leave other chat formats alone
            pipeline = copy(self)
            pipeline.tokenizer = copy(self.tokenizer)
            pipeline.tokenizer.response_template = None
        return super(NanochatGPTTextPipeline, pipeline).postprocess(model_outputs, return_type=return_type, **options)


PIPELINE_REGISTRY.supported_tasks["text-generation"]["impl"] = NanochatGPTTextPipeline
