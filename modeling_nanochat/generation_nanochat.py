"""What makes `generate` fast: keys and values with room for more, and little ado about a single new token.

`generate` stays transformers' own, with all its options. It asks `prepare_inputs_for_generation` for the inputs of
each step. There we give a dynamic cache layers that grow in place; and where a step is of the common kind (one new
token a row, a model that is its weights and nothing else) we add `linear`, which lets the forward pass take its short
way. Every other step goes the way of transformers.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation import GenerationMixin

SPARE_TOKENS = 256  # that a RoomyLayer allocates beyond those it holds
# With anything else a step is asked for more than the next token's logits.
SINGLE_TOKEN_OPTIONS = {"use_cache", "logits_to_keep", "inputs_embeds"}


class RoomyLayer(DynamicLayer):
    """The past of one layer, with room for more; a DynamicLayer copies all of it for every token."""

    room: torch.Tensor | None = None  # (2, B, K, allocated tokens, d): keys and values
    written: torch.Tensor | None = None  # the keys as the last update left them, a view of `room`

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values (B, K, S, d), once the new ones (B, K, T, d) are written."""
        if key_states.requires_grad:  # backward wants what it saved untouched
            return super().update(key_states, value_states, *args, **kwargs)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        seen = self.get_seq_length()
        length = seen + key_states.size(2)
        # Keys that are not those last written have been cropped, reordered for beams, moved or reset.
        if self.keys is not self.written or length > self.room.size(3):
            B, K, _, d = key_states.shape
            self.room = key_states.new_empty(2, B, K, length + SPARE_TOKENS, d)
            if seen:
                self.room[0, :, :, :seen], self.room[1, :, :, :seen] = self.keys, self.values
        self.room[0, :, :, seen:length] = key_states
        self.room[1, :, :, seen:length] = value_states
        self.keys, self.values = self.room[:, :, :, :length].unbind()
        self.written = self.keys
        return self.keys, self.values


def plain_linear(x: torch.Tensor, matrix: nn.Linear) -> torch.Tensor:
    """x @ W.T by the weight alone, without the module's call."""
    return F.linear(x, matrix.weight)


class PackedLinear:
    """x @ W.T on a CPU, with W laid out for oneDNN once; a plain product of a few rows lays it out every time.

    As torch.compile does it, by operators of torch that are not public: `can_pack` looks whether they are there.
    Lives as long as one call of `generate`'s cache, within which no weight changes; holds a copy of every matrix.
    """

    def __init__(self) -> None:
        self.packed = {}

    def __call__(self, x: torch.Tensor, matrix: nn.Linear) -> torch.Tensor:
        if matrix not in self.packed:
            self.packed[matrix] = torch.ops.mkldnn._reorder_linear_weight(matrix.weight.detach(), x.size(0))
        x = x.to(matrix.weight.dtype)  # attention under autocast gives another
        return torch.ops.mkldnn._linear_pointwise(x, self.packed[matrix], None, "none", [], "")

    def __getstate__(self) -> dict:
        """A copied or pickled cache packs anew: the packed weights can be neither copied nor stored."""
        return {"packed": {}}


def can_pack(weight: torch.Tensor) -> bool:
    """Whether products by `weight` may go through PackedLinear: fp32 on a CPU, and nothing to differentiate."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class NanochatGPTGenerationMixin(GenerationMixin):
    """transformers' `generate`, with a short way for the step that takes nearly all of its time."""

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        position_ids: torch.LongTensor | None = None,
        **kwargs,
    ) -> dict:
        """Inputs of the next forward pass: as transformers makes them, or of a single token after a dynamic cache."""
        if type(past_key_values) is DynamicCache and not past_key_values.offloading:
            if is_first_iteration:
                make_room(past_key_values)
                past_key_values.linear = self.linear_for_single_tokens(batch=input_ids.size(0))
            elif (
                next_sequence_length == 1
                and getattr(past_key_values, "linear", None) is not None
                and position_ids is not None
                and kwargs.keys() <= SINGLE_TOKEN_OPTIONS
                and input_ids.device == self.lm_head.weight.device
            ):
                return {
                    "input_ids": input_ids[:, -1:],
                    "position_ids": position_ids[:, -1:],
                    "past_key_values": past_key_values,
                    "attention_mask": attention_mask,
                    "linear": past_key_values.linear,
                }
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            is_first_iteration=is_first_iteration,
            position_ids=position_ids,
            **kwargs,
        )

    def linear_for_single_tokens(self, batch: int) -> Callable[[torch.Tensor, nn.Linear], torch.Tensor] | None:
        """The product to decode `batch` rows by, or None where steps must go through the modules."""
        if not self.is_plain():
            return None
        # One row reads each weight once either way.
        return PackedLinear() if batch > 1 and can_pack(self.lm_head.weight) else plain_linear


def make_room(cache: DynamicCache) -> None:
    """Turn the layers of `cache` that are still empty into layers that grow in place."""
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer and not layer.is_initialized else layer for layer in cache.layers
    ]
