"""What makes `generate` fast: the state that its steps share, for the short way a single new token takes.

`generate` stays transformers' own, with all its options, and so do its caches and the inputs of each step. While it
runs, `current_decoding` holds room for the keys and values to come, and on a CPU the weights in the layout that its
products want. The model's forward pass looks there, and takes its short way (`NanochatGPTModel.decode`) where it can.
Nothing of this outlives the call: neither weights that change later nor a copied or stored cache can go wrong by it.

Beside it, the pipeline that shows people what was generated.
"""

from contextvars import ContextVar
from copy import copy
from functools import wraps

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation import GenerationMixin
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.text_generation import ReturnType, TextGenerationPipeline
from transformers.utils.chat_template_utils import Chat

END_OF_TURN = "<|assistant_end|>"
SPARE_TOKENS = 256  # to come, that keys and values get room for
SINGLE_TOKEN_OPTIONS = {"position_ids", "use_cache", "logits_to_keep"}


class Decoding:
    """The state that the steps of one call of `generate` share."""

    def __init__(self) -> None:
        self.rooms: dict[DynamicLayer, Room] = {}
        self.packed: dict[nn.Module, tuple] = {}  # weight, its version, and its copy

    def update(self, layer: DynamicLayer, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values (B, K, S, d) of `layer`, once those of one new token (B, K, 1, d) are added.

        The same as `layer.update`, which copies all of them for every token.
        """
        if key.shape[:2] != layer.keys.shape[:2] or key.dtype != layer.keys.dtype:
            return layer.update(key, value)  # which says what does not fit
        room = self.rooms.get(layer)
        if room is None or not room.continues(layer):
            room = self.rooms[layer] = Room(layer)
        return room.append(layer, key, value)

    def linear(self, x: torch.Tensor, matrix: nn.Module) -> torch.Tensor:
        """`matrix(x)` of one token a row, x (B, D): by the weight alone where `matrix` is nothing else.

        A product of several rows in fp32 on a CPU is faster by a copy of the weight laid out for oneDNN; a plain one
        lays it out every time. As torch.compile does it, by operators of torch that are not public.
        """
        parameters = matrix._parameters  # quicker than by attributes
        weight = parameters.get("weight")
        if (
            weight is None
            or parameters.get("bias") is not None
            or type(matrix).forward is not nn.Linear.forward
            or not is_bare(matrix)
        ):
            return matrix(x[:, None])[:, 0]  # adapted, quantized, parametrized, hooked: it is used to (B, T, D)
        if x.size(0) == 1:  # reads each weight once either way
            return F.linear(x, weight)
        known, version, packed = self.packed.get(matrix, (None, None, None))
        if weight is not known or weight._version != version:
            packed = pack(weight, rows=x.size(0))
            self.packed[matrix] = weight, weight._version, packed
        if packed is None:
            return F.linear(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


class Room:
    """The keys and values of one cache layer, with room for more to be written behind them."""

    def __init__(self, layer: DynamicLayer) -> None:
        B, K, S, d = layer.keys.shape
        self.tokens = S + SPARE_TOKENS
        self.keys, self.values = layer.keys.new_empty(2, B, K, self.tokens, d).unbind()
        self.keys[:, :, :S], self.values[:, :, :S] = layer.keys, layer.values
        self.shown = layer.keys, layer.values

    def continues(self, layer: DynamicLayer) -> bool:
        """Whether there is room, and `layer` still holds what it was shown last: not cropped, reordered or moved."""
        keys, values = self.shown
        return layer.keys is keys and layer.values is values and keys.size(2) < self.tokens

    def append(self, layer: DynamicLayer, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one more token, and show `layer` everything up to there."""
        S = layer.keys.size(2)
        self.keys.narrow(2, S, 1).copy_(key)
        self.values.narrow(2, S, 1).copy_(value)
        layer.keys, layer.values = self.shown = self.keys.narrow(2, 0, S + 1), self.values.narrow(2, 0, S + 1)
        return self.shown


def pack(weight: torch.Tensor, rows: int) -> torch.Tensor | None:
    """A copy of `weight` laid out for products of `rows` rows; None unless it is a plain one in fp32 on a CPU."""
    if (
        weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or type(weight) is not nn.Parameter  # torchao has types of its own
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


def is_bare(module: nn.Module, kind: type[nn.Module] | None = None) -> bool:
    """Whether `module` is a `kind` and calling it does what its class says: no hooks, no `forward` of its own."""
    return (
        (kind is None or type(module) is kind)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and "forward" not in vars(module)
    )


current_decoding: ContextVar[Decoding | None] = ContextVar("current_decoding", default=None)


class NanochatGPTGenerationMixin(GenerationMixin):
    """transformers' `generate`, with a short way for the step that takes nearly all of its time."""

    @wraps(GenerationMixin.generate)
    def generate(self, *args, **kwargs):
        token = current_decoding.set(Decoding())
        try:
            return super().generate(*args, **kwargs)
        finally:
            current_decoding.reset(token)

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
        """Inputs of the next forward pass as transformers makes them; of a single token without its detours."""
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
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )


class NanochatGPTTextPipeline(TextGenerationPipeline):
    """`pipeline("text-generation")`, with clean text where a tokenizer has a `response_template`.

    transformers then keeps the special tokens of all it returns, since replies are parsed by them. We keep them where
    it parses, into the message that ends a whole conversation, and leave them out of what people read.
    """

    def postprocess(
        self, model_outputs: dict, return_type: ReturnType = ReturnType.FULL_TEXT, **options
    ) -> list[dict]:
        reader, prompt = self, model_outputs["prompt_text"]
        goes_on = options.get("continue_final_message")  # with the last message, which the text is then appended to
        if goes_on is None and isinstance(prompt, Chat):
            goes_on = prompt.messages[-1]["role"] == "assistant"
        is_parsed = return_type == ReturnType.FULL_TEXT and isinstance(prompt, Chat) and not goes_on
        if END_OF_TURN in self.tokenizer.get_added_vocab() and not is_parsed:  # of other formats we know nothing
            reader = copy(self)
            reader.tokenizer = copy(self.tokenizer)
            reader.tokenizer.response_template = None
        return super(NanochatGPTTextPipeline, reader).postprocess(model_outputs, return_type=return_type, **options)


PIPELINE_REGISTRY.supported_tasks["text-generation"]["impl"] = NanochatGPTTextPipeline
