"""What smear keeps beside the KV cache: the embeddings of the last tokens, as one more layer of the cache.

Smear adds a share of the previous token's embedding to each token. While a text is generated, that embedding comes
from the step before. In a layer of transformers' `Cache` after those of the model, it is reordered, cropped, copied,
selected, reset and moved with the keys and values. The layer is one of transformers' own, with embeddings (B, 1, S, D)
in the place of keys and nothing in the place of values. The last function tells where smear adds nothing.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer, StaticLayer


class LastEmbeddingLayer(StaticLayer):
    """For static caches, which cannot be cropped: the last embedding alone, in a buffer of its own."""

    def __init__(self) -> None:
        super().__init__(max_cache_len=1)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the last of the embeddings (B, 1, T, D), and return it after the one kept before: (B, 1, T + 1, D)."""
        if not self.is_initialized:
            if torch.compiler.is_exporting():
                raise ValueError("models with smear cannot be exported with a static cache: use a dynamic one")
            self.lazy_initialization(key_states, value_states)  # with zeros
        both = torch.cat((self.keys, key_states), dim=2)
        self.keys.copy_(key_states[:, :, -1:])  # in place, since compiled code knows the buffer by its address
        return both, self.values

    def get_seq_length(self) -> int:
        return int(self.is_initialized)


def embeddings_layer(cache: Cache, num_layers: int) -> CacheLayerMixin:
    """The layer of `cache` that keeps embeddings, after the `num_layers` of the model; appended at the first call."""
    while cache.layer_class_to_replicate is not None and len(cache.layers) < num_layers:
        cache.layers.append(cache.layer_class_to_replicate())  # a DynamicCache without a config adds layers as needed
    if len(cache.layers) == num_layers:
        cache.layers.append(_layer_like(cache.layers))
    if cache.offloading:  # the last layer of the model prefetched this one, and not the first
        cache.prefetch(0, cache.only_non_sliding)
    return cache.layers[num_layers]


def _layer_like(layers: list[CacheLayerMixin]) -> CacheLayerMixin:
    """A layer that remembers as long as the one of `layers` with the shortest memory, so that it crops as they do."""
    if any(isinstance(layer, StaticLayer) for layer in layers):
        return LastEmbeddingLayer()
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    if not windows:
        return DynamicLayer()
    layer = DynamicSlidingWindowLayer(sliding_window=min(windows))
    if any(getattr(each, "record_past", False) for each in layers):
        layer.activate_past_recording()
    return layer


def previous_embeddings(append: Callable, embeddings: torch.Tensor) -> torch.Tensor:
    """The embedding of the token before each of `embeddings` (B, T, D): (B, T, D), zeros before the first.

    `append` is `update` of the layer that keeps them, or does the same.
    """
    T = embeddings.size(1)
    states = embeddings[:, None]  # (B, 1, T, D)
    kept, _ = append(states, states[..., :0])
    previous = kept[:, 0, -T - 1 : -1]
    return previous if previous.size(1) == T else F.pad(previous, (0, 0, T - previous.size(1), 0))


def starts_of_texts(
    T: int,
    seen: int | torch.Tensor,
    attention_mask: torch.Tensor | dict | None,
    position_ids: torch.Tensor | None,
) -> torch.Tensor | None:
    """Which of `T` new tokens after `seen` ones have no token of their own text before them: (B or 1, T), or None.

    A text starts at position 0, and where the mask hides the token before.
    """
    starts = None if position_ids is None else position_ids == 0
    if isinstance(attention_mask, dict):
        attention_mask = attention_mask.get("full_attention")
    if not isinstance(attention_mask, torch.Tensor):  # none, or flex attention's
        return starts
    if T == 1 and attention_mask.ndim == 2 and isinstance(seen, int) and seen:  # the next step of `generate`
        hidden = attention_mask[:, seen - 1 : seen] == 0
        return hidden if starts is None else starts | hidden
    before = (torch.arange(T, device=attention_mask.device) + seen - 1).clamp_min(0)  # place of the token before
    if attention_mask.ndim == 2:  # (B, S)
        hidden = attention_mask[:, before] == 0
    else:  # (B, 1, T, S): True or 0 where attended
        seen_by = attention_mask[:, 0].gather(-1, before[None, :, None].expand(len(attention_mask), -1, -1))[..., 0]
        hidden = ~seen_by if seen_by.dtype == torch.bool else seen_by < 0
    return hidden if starts is None else starts.to(hidden.device) | hidden
