"""NanochatGPT: decoder, language model and classifiers; blocks in layers_nanochat.py, the loss in loss_nanochat.py.

A pre-norm decoder, as karpathy/nanochat's: RMSNorm without weights, also on the embeddings; rotary positions;
RMSNorm on queries and keys; relu^2 MLP; untied embedding and head; soft-capped logits; no biases. The features of its
models of 2026 are off by default: windows, value embeddings, residual scalars, smear, backout. Shapes: B batch, T new
tokens, S attended tokens (cached and new), D hidden size, H query heads, K key/value heads, d head size, V vocabulary.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .cache_nanochat import embeddings_layer, previous_embeddings, starts_of_texts
from .configuration_nanochat import SMEAR_CHANNELS, NanochatGPTConfig
from .generation_nanochat import FastDecodingMixin, NanochatGPTGenerationMixin, can_append, current_decoding
from .layers_nanochat import (
    Gate,
    Head,
    MLPInput,
    NanochatGPTAttention,
    NanochatGPTDecoderLayer,
    RotaryTable,
    ValueEmbedding,
    ZeroInitLinear,
    is_unmodified,
    rms_norm,
)
from .loss_nanochat import IGNORE_INDEX, linear_cross_entropy, soft_cap


class NanochatGPTPreTrainedModel(PreTrainedModel):
    """Capabilities that transformers asks about, weight initialization, and saving."""

    config_class = NanochatGPTConfig
    config: NanochatGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("NanochatGPTDecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"^lm_head\.",)  # loading into a model with another head, or with none
    # Quantizers leave these out: gates read 24 channels at most, and weights are quantized in groups of 32 and more.
    # In fp16 gates stay in fp32, which costs nothing.
    _keep_in_fp32_modules = (".*ve_gate", ".*smear_gate")
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": NanochatGPTDecoderLayer, "attentions": NanochatGPTAttention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Embedding N(0, 1); head and output projections zero; other matrices uniform with std 1/sqrt(fan_in).

        With zero output projections every block starts as the identity, and with a zero head the first loss is
        exactly ln V. `init` skips weights that were loaded from a checkpoint. The features of 2026 start as in
        nanochat: gates slightly open, smear off, more of the embedding in early layers than in late ones.
        """
        config = self.config
        if isinstance(module, ValueEmbedding):
            bound = math.sqrt(3.0 / config.hidden_size)  # as the value projection beside it
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=config.initial_embedding_std)
        elif isinstance(module, Head) and config.initial_head_std:
            init.normal_(module.weight, mean=0.0, std=config.initial_head_std)
        elif isinstance(module, ZeroInitLinear | Head):
            init.zeros_(module.weight)
        elif isinstance(module, Gate):
            init.uniform_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(3.0 / module.in_features)  # a uniform distribution on [-b, b] has std b / sqrt(3)
            if isinstance(module, MLPInput):
                bound *= config.initial_fc1_scale
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:  # only the classifier heads have one
                init.zeros_(module.bias)
        elif isinstance(module, NanochatGPTModel):
            module.init_scalars()
        elif isinstance(module, RotaryTable):
            module.fill()

    def get_per_layer_inputs(self, input_ids: torch.LongTensor) -> torch.Tensor:
        """The value embeddings of `input_ids` (B, T) in all layers that have one: (B, T, tables, K x d).

        For callers that give `inputs_embeds`, from which they cannot be looked up (as in transformers' Gemma 3n).
        """
        return torch.stack([table(input_ids) for table in self.base_model.value_embeds.values()], dim=2)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """transformers' own, with the rows of embeddings and head padded as the config says."""
        config = self.config
        if new_num_tokens is None and pad_to_multiple_of is None:
            return self.get_input_embeddings()
        vocab_size = config.vocab_size if new_num_tokens is None else new_num_tokens
        vocab_size = -(-vocab_size // (pad_to_multiple_of or 1)) * (pad_to_multiple_of or 1)
        if vocab_size != config.vocab_size:
            super().resize_token_embeddings(config.vocab_size)  # new rows must not be like those that pad the old ones
            config.vocab_size = vocab_size
            super().resize_token_embeddings(config.padded_vocab_size, mean_resizing=mean_resizing)
            config.vocab_size = self.vocab_size = vocab_size  # transformers has set it to the number of rows
        return self.get_input_embeddings()

    def _resize_token_embeddings(self, new_num_tokens, *args, **kwargs) -> nn.Embedding:
        """Resize the value embeddings, too. Private, but transformers' models with more tables override it as well."""
        if self.config.value_embeddings:
            for table in self.base_model.value_embeds.values():
                self._get_resized_embeddings(table, new_num_tokens)
        return super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def save_pretrained(self, *args, **kwargs) -> None:
        self.config.auto_map = dict(AUTO_MAP)  # every class: transformers would only enter the class being saved
        super().save_pretrained(*args, **kwargs)


class NanochatGPTModel(FastDecodingMixin, NanochatGPTPreTrainedModel):
    """Decoder without a head: token ids to normalized hidden states.

    Attributes:
        compute_dtype: of hidden states and matrix products where it is not that of the weights. Training in bf16 keeps
            the weights in fp32; autocast would keep all between the products in fp32, too, and move twice the bytes.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.padded_vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(NanochatGPTDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.rotary_table = RotaryTable(config)
        self.gradient_checkpointing = False
        if config.value_embeddings:
            size = config.padded_vocab_size, config.num_key_value_heads * config.head_dim
            self.value_embeds = nn.ModuleDict({str(i): ValueEmbedding(*size) for i in config.value_layers})
        if config.residual_scalars:
            self.resid_lambdas = nn.Parameter(torch.empty(config.num_hidden_layers))
            self.x0_lambdas = nn.Parameter(torch.empty(config.num_hidden_layers))
        if config.smear:
            self.smear_gate = Gate(SMEAR_CHANNELS, 1, bias=False)
            self.smear_lambda = nn.Parameter(torch.empty(1))
        if config.backout:
            self.backout_lambda = nn.Parameter(torch.empty(1))
        self.backout_layer = config.num_hidden_layers // 2 if config.backout else None
        self.full_layer = next((i for i in range(config.num_hidden_layers) if not config.is_sliding(i)), 0)
        self.post_init()

    def init_scalars(self) -> None:
        """Set the scalars of 2026 to what nanochat starts them with."""
        config = self.config
        if config.residual_scalars:
            # 0 at the first block, 1 at the last; made from the parameter, which is a DTensor under FSDP
            height = (torch.ones_like(self.resid_lambdas).cumsum(0) - 1) / max(config.num_hidden_layers - 1, 1)
            init.copy_(self.resid_lambdas, 1.15 - 0.10 * height)
            init.copy_(self.x0_lambdas, 0.20 - 0.15 * height)
        if config.smear:
            init.zeros_(self.smear_lambda)
        if config.backout:
            init.constant_(self.backout_lambda, 0.2)

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
        per_layer_inputs: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, D) of `input_ids` (B, T) or `inputs_embeds` (B, T, D) that follow `past_key_values`.

        Models with value embeddings need `per_layer_inputs` beside `inputs_embeds` (see `get_per_layer_inputs`).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if self.config.value_embeddings and input_ids is None and per_layer_inputs is None:
            raise ValueError(
                "this model looks up value embeddings by token id: give input_ids, or beside inputs_embeds "
                "per_layer_inputs, which model.get_per_layer_inputs(input_ids) returns"
            )
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        inputs_embeds = self.in_compute_dtype(inputs_embeds)
        masks = self.attention_masks(inputs_embeds, attention_mask, position_ids, past_key_values)
        seen = self.tokens_seen(past_key_values)
        layers = self.layers[: self.config.num_hidden_layers]  # fewer of them for early exit in assisted decoding
        eps = self.config.rms_norm_eps
        hidden_states = rms_norm(inputs_embeds, eps)  # embeddings are N(0, 1) at first; the norm keeps that scale
        if self.config.smear:
            starts = starts_of_texts(hidden_states.size(1), seen, attention_mask, position_ids)
            past = None if past_key_values is None else embeddings_layer(past_key_values, len(layers))
            hidden_states = self.smear(hidden_states, starts, None if past is None else past.update)
        x0 = hidden_states
        # A copy, (layers, 2): the hooks of torch's counters of FLOPs do not take views of parameters under no_grad.
        scalars = torch.stack((self.resid_lambdas, self.x0_lambdas), 1) if self.config.residual_scalars else None
        angles = self.rotary_table(hidden_states, position_ids, seen)  # (B or 1, T, d/2) each; shared by layers
        halfway = None
        for i, layer in enumerate(layers):
            hidden_states = layer(
                hidden_states,
                *self.layer_features(i, x0, scalars, input_ids, per_layer_inputs),
                position_embeddings=angles,
                attention_mask=masks[layer.self_attn.sliding_window is not None],
                past_key_values=past_key_values,
                position_ids=position_ids,
                **kwargs,
            )
            if i == self.backout_layer:
                halfway = hidden_states
        if halfway is not None:  # layers may be on several devices
            hidden_states = hidden_states - self.backout_lambda.to(hidden_states) * halfway.to(hidden_states.device)
        return BaseModelOutputWithPast(last_hidden_state=rms_norm(hidden_states, eps), past_key_values=past_key_values)

    def in_compute_dtype(self, embeddings: torch.Tensor) -> torch.Tensor:
        """`embeddings` in the precision that training has chosen for hidden states; otherwise as they are."""
        return embeddings if self.compute_dtype is None else embeddings.to(self.compute_dtype)

    def tokens_seen(self, past_key_values: Cache | None) -> int | torch.Tensor:
        """Number of tokens in a cache, asked of a layer without a window: others lose it when a cache is exported."""
        if past_key_values is None:
            return 0
        return past_key_values.get_seq_length(min(self.full_layer, self.config.num_hidden_layers - 1))

    def attention_masks(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | dict | None,
        position_ids: torch.LongTensor | None,
        past_key_values: Cache | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Masks of the layers that see all tokens, and of those that see a window; None where SDPA needs none."""
        config = self.config
        windows = "sliding_attention" in getattr(config, "layer_types", ())
        if isinstance(attention_mask, dict):  # made by `generate` beforehand, for compiled steps
            return attention_mask.get("full_attention"), attention_mask.get("sliding_attention")
        # Rows that each hold one text from its start need no mask: SDPA is told `is_causal`, which its flash kernels
        # require. transformers skips the mask too, but not under torch.compile (version 5.17, torch 2.11).
        causal = attention_mask is None and position_ids is None and past_key_values is None
        causal = causal and config._attn_implementation == "sdpa" and getattr(config, "is_causal", True)
        inputs = {
            "config": config,
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            # The caller's, which may mark packed rows. With the default positions made below, every compiled row
            # would be treated as packed.
            "position_ids": position_ids,
        }
        full = None if causal else create_causal_mask(**inputs)
        if not windows or (causal and inputs_embeds.size(1) <= config.sliding_window):
            return full, None
        if isinstance(full, torch.Tensor) and full is attention_mask:  # made by the caller, in four dimensions
            return full, self.within_window(full, past_key_values)
        return full, create_sliding_window_causal_mask(**inputs)

    def within_window(self, mask: torch.Tensor, past_key_values: Cache | None) -> torch.Tensor:
        """A mask (B, 1, T, S) for layers that see all tokens, made one for layers with a window and their keys."""
        T, S = mask.shape[2:]
        seen, first, length = self.tokens_seen(past_key_values), 0, S
        if past_key_values is not None:
            length, first = past_key_values.get_mask_sizes(T, self.config.layer_types.index("sliding_attention"))
        places = torch.arange(S, device=mask.device)
        too_old = places <= places[:T, None] + (seen - self.config.sliding_window)  # (T, S)
        hides = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return mask.masked_fill(too_old, hides)[..., first : first + length]

    def smear(self, embeddings: torch.Tensor, starts: torch.Tensor | None, append: Callable | None) -> torch.Tensor:
        """x_t + lambda sigmoid(w . x_t) x_{t-1} for embeddings x (B, T, D): cheap information about pairs of tokens.

        Nothing is added where `starts` (B or 1, T) says that a text starts. `append` adds to a layer of the cache.
        """
        previous = F.pad(embeddings, (0, 0, 1, -1)) if append is None else previous_embeddings(append, embeddings)
        gate = torch.sigmoid(self.smear_gate(embeddings[..., :SMEAR_CHANNELS]))  # (B, T, 1)
        gate = self.smear_lambda.to(gate.device) * gate
        if starts is not None:
            gate = gate.masked_fill(starts[..., None].to(gate.device), 0.0)
        return torch.addcmul(embeddings, gate.to(embeddings.dtype), previous)

    def layer_features(
        self,
        i: int,
        x0: torch.Tensor,
        scalars: torch.Tensor | None,
        input_ids: torch.LongTensor | None,
        per_layer_inputs: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, ...]:
        """What layer `i` gets besides the stream: the first hidden states, its scalars, and a value embedding."""
        config = self.config
        residual = (None,) * 3 if scalars is None else (x0, *scalars[i].unbind())
        if not config.value_embeddings or str(i) not in self.value_embeds:
            return residual
        if per_layer_inputs is None:
            return *residual, self.value_embeds[str(i)](input_ids)
        return *residual, per_layer_inputs[:, :, list(self.value_embeds).index(str(i))]


class NanochatGPTForCausalLM(NanochatGPTPreTrainedModel, NanochatGPTGenerationMixin):
    """NanochatGPT with a language-modeling head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012  (used only if tied by config)
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012
    # The same in all processes: DDP need not send it around before every forward pass.
    _ddp_params_and_buffers_to_ignore = ("model.rotary_table.cos", "model.rotary_table.sin")

    def __init__(self, config: NanochatGPTConfig) -> None:
        super().__init__(config)
        self.model = NanochatGPTModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = Head(config.hidden_size, config.padded_vocab_size, bias=False)
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
        per_layer_inputs: torch.FloatTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        skip_logits: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) in fp32, and the loss when `labels` (B, T) are given.

        Args:
            labels: the input ids themselves (they are shifted here), -100 where there is no loss. Labels that are
                shifted already are passed as `shift_labels` too, as in all of transformers.
            logits_to_keep: compute logits for the last N positions only (0: all), or for the positions in a tensor.
            skip_logits: return the loss without logits, for training loops. The loss is then computed a chunk of
                tokens at a time, which is faster and needs less memory, as the logits of a batch never exist at once.
        """
        decoding = None if torch.compiler.is_compiling() else current_decoding.get()  # None outside `generate`
        needs_full_forward = (
            labels is not None
            or per_layer_inputs is not None
            or not isinstance(logits_to_keep, int)
            or any(value is not None and value is not False for value in kwargs.values())
        )
        inputs = input_ids, attention_mask, position_ids, past_key_values
        if decoding is not None and inputs_embeds is None and not needs_full_forward and self.can_decode(*inputs):
            hidden_states = self.model.decode(decoding, *inputs)  # (B, D)
            logits = self.crop_and_cap(decoding.linear(hidden_states, self.lm_head))
            return CausalLMOutputWithPast(logits=logits[:, None], past_key_values=past_key_values)  # (B, 1, V)
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            per_layer_inputs=per_layer_inputs,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        logits = loss = None
        if labels is not None and skip_logits:
            loss = self.loss_without_logits(hidden_states, labels, **kwargs)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.crop_and_cap(self.lm_head(hidden_states[:, kept]))
            if labels is not None:
                loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def crop_and_cap(self, logits: torch.Tensor) -> torch.Tensor:
        """Soft-capped fp32 logits (..., V) of the head's (..., padded V)."""
        return soft_cap(logits[..., : self.config.vocab_size], self.config.final_logit_softcapping)

    def can_decode(
        self,
        input_ids: torch.LongTensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.LongTensor | None,
        past_key_values: Cache | None,
    ) -> bool:
        """Whether `NanochatGPTModel.decode` would compute the same as its `forward` from these inputs.

        True for one new token per row after a plain DynamicCache, when no block was hooked or patched. Checked at
        every step, since hooks, adapters and options may change between steps.
        """
        config, model = self.config, self.model
        return (
            type(past_key_values) is DynamicCache
            and not past_key_values.offloading
            and len(past_key_values.layers) == len(model.layers) + config.smear
            and len(model.layers) == config.num_hidden_layers
            and all(map(can_append, past_key_values.layers))
            and input_ids is not None
            and input_ids.shape[1:] == (1,)
            and (position_ids is None or position_ids.shape[1:] == (1,))
            and (attention_mask is None or attention_mask.shape[1:] == (model.tokens_seen(past_key_values) + 1,))
            and not torch.is_grad_enabled()
            and config._attn_implementation == "sdpa"  # rules out output_attentions, which needs eager attention
            and not config.output_hidden_states
            and not (self.training and (config.attention_dropout or model.gradient_checkpointing))
            and is_unmodified(model, NanochatGPTModel)
            and all(map(NanochatGPTDecoderLayer.is_unmodified, model.layers))
        )

    def loss_without_logits(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Cross-entropy in nats summed over labelled tokens, divided by `num_items_in_batch` or else their number.

        With gradient accumulation `num_items_in_batch` counts the tokens of all micro-batches, so that summing the
        losses gives the mean over the whole batch, however the tokens are spread over micro-batches.
        """
        if type(self.lm_head) not in (Head, nn.Linear) or type(self.lm_head.weight) is not nn.Parameter:
            # An adapted or quantized head computes more than x @ weight.T: call its forward.
            logits = self.crop_and_cap(self.lm_head(hidden_states))
            options = {"num_items_in_batch": num_items_in_batch, "shift_labels": shift_labels}
            return self.loss_function(logits, labels, self.config.vocab_size, **options)
        if shift_labels is None:  # the label of each token is the next one; the last token of a row has none
            shift_labels = F.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:]
        targets = shift_labels.reshape(-1).to(hidden_states.device)
        total = linear_cross_entropy(
            hidden_states.reshape(-1, hidden_states.size(-1)),
            self.lm_head.weight[: self.config.vocab_size],
            targets,
            self.config.final_logit_softcapping,
        )
        return total / ((targets != IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch)


class NanochatGPTClassifier(NanochatGPTPreTrainedModel):
    """Base of the heads below, whose decoder transformers builds through AutoModel."""

    def __init__(self, config: NanochatGPTConfig) -> None:
        # Not at import: code in a local directory is imported twice, once for the config and once for the model.
        AutoModel.register(type(config), NanochatGPTModel, exist_ok=True)
        super().__init__(config)


class NanochatGPTForSequenceClassification(GenericForSequenceClassification, NanochatGPTClassifier):
    """NanochatGPT with a linear head on the last token that is not padding."""


class NanochatGPTForTokenClassification(GenericForTokenClassification, NanochatGPTClassifier):
    """NanochatGPT with a linear head on every token."""


class NanochatGPTForQuestionAnswering(GenericForQuestionAnswering, NanochatGPTClassifier):
    """NanochatGPT with a linear head that marks where an answer starts and ends."""


# Which class each Auto class loads from a checkpoint's own code (`trust_remote_code=True`).
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
