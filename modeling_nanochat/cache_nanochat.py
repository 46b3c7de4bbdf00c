"""What smear keeps beside the KV cache: the embeddings of the last tokens, as one more layer of the cache.

Smear adds a share of the previous token's embedding to each token. While a text is generated, that embedding comes
from the step before. As a layer of transformers' `Cache`, appended after those of the model, it is reordered, cropped,
copied, selected, reset and moved with the keys and values, whatever the kind of cache.
"""

import torch
from torch.nn import functional as F
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer, StaticLayer


class EmbeddingsLayer(DynamicLayer):
    """Embeddings (B, 1, S, D) in the place of keys, for caches that keep all tokens and may be cropped to any."""

    def shift(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Append `embeddings` (B, T, D); return those of the token before each, (B, T, D), zeros before the first."""
        T = embeddings.size(1)
        history, _ = self.update(embeddings[:, None], embeddings[:, None, :, :0])  # the values are empty
        previous = history[:, 0, -T - 1 : -1]
        return F.pad(previous, (0, 0, T - previous.size(1), 0))


class SlidingEmbeddingsLayer(DynamicSlidingWindowLayer):
    """The same for caches with windows, which can be cropped no further than their shortest layer."""

    shift = EmbeddingsLayer.shift


class StaticEmbeddingsLayer(StaticLayer):
    """The same for static caches, which cannot be cropped: the last embedding alone, in a buffer of its own."""

    def __init__(self) -> None:
        super().__init__(max_cache_len=1)

    def shift(self, embeddings: torch.Tensor) -> torch.Tensor:
        last = embeddings[:, None, -1:]
        if not self.is_initialized:
            self.lazy_initialization(last, last[..., :0])  # zeros
        previous = torch.cat((self.keys[:, 0], embeddings[:, :-1]), dim=1)
        self.keys.copy_(last)  # in place, since compiled code knows the buffer by its address
        return previous


AnyEmbeddingsLayer = EmbeddingsLayer | SlidingEmbeddingsLayer | StaticEmbeddingsLayer


def embeddings_layer(
    cache: Cache, num_layers: int
) -> EmbeddingsLayer | SlidingEmbeddingsLayer | StaticEmbeddingsLayer:
    """The layer of `cache` that keeps embeddings; appended after the model's `num_layers` at the first call."""
    if cache.layers and isinstance(cache.layers[-1], AnyEmbeddingsLayer):
        return cache.layers[-1]
    while cache.layer_class_to_replicate is not None and len(cache.layers) < num_layers:
        cache.layers.append(cache.layer_class_to_replicate())  # a DynamicCache without a config adds layers as needed
    cache.layers.append(_like(cache.layers))
    return cache.layers[-1]


def _like(layers: list[CacheLayerMixin]) -> AnyEmbeddingsLayer:
    """A layer for embeddings that remembers as long as the one with the shortest memory among `layers`."""
    if any(isinstance(layer, StaticLayer) for layer in layers):
        return StaticEmbeddingsLayer()
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    if not windows:
        return EmbeddingsLayer()
    layer = SlidingEmbeddingsLayer(sliding_window=min(windows))
    if any(getattr(each, "record_past", False) for each in layers):
        layer.activate_past_recording()
    return layer
