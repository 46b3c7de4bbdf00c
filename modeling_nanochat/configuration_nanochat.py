"""Configuration of NanochatGPT. One dial, the depth, sets every size (`NanochatGPTConfig.from_depth`).

Each feature of nanochat's models of 2026 is a field of its own. With all of them off, the default, the model is that
of 2025, which transformers knows as NanoChat.
"""

import sys

from transformers import PretrainedConfig

SMEAR_CHANNELS = 24  # of an embedding, which decide how much of the previous one is added
VALUE_GATE_CHANNELS = 12  # of a block's input, which decide how much of the value embedding is added
ATTENTION = {"S": "sliding_attention", "L": "full_attention"}  # nanochat's letters in transformers' terms
GENERATIONS = {
    2025: {},
    2026: {
        "vocab_size": 32768,
        "rms_norm_eps": 2.0**-23,  # of fp32, which F.rms_norm takes where no epsilon is given
        "rope_theta": 100_000.0,
        "query_key_scale": 1.2,
        "window_pattern": "SSSL",
        "value_embeddings": True,
        "residual_scalars": True,
        "smear": True,
        "backout": True,
        "pad_vocab_size_multiple": 64,
        "initial_embedding_std": 0.8,
        "initial_head_std": 0.001,
        "initial_fc1_scale": 0.4,
    },
}


class NanochatGPTConfig(PretrainedConfig):
    """Sizes and constants of a NanochatGPT.

    The field names are those of transformers' own `NanoChatConfig`, so only the config changes when a checkpoint is
    converted to and from `NanoChatForCausalLM`. The `model_type` differs on purpose: for "nanochat", transformers
    would load its own class.

    Args:
        vocab_size: number of tokens, including special tokens.
        hidden_size: width D of the residual stream.
        intermediate_size: width of the MLP; None means 4 x `hidden_size`.
        num_hidden_layers: number of blocks.
        num_attention_heads: number of query heads; must divide `hidden_size`.
        num_key_value_heads: number of key and value heads (fewer than query heads: grouped-query attention); None
            means as many as query heads.
        max_position_embeddings: context length in tokens.
        rms_norm_eps: epsilon of every RMSNorm (they have no weights); 2^-23 in 2026.
        rope_theta: base of the rotary frequencies.
        rotary_dtype: dtype that the rotary cosines and sines are rounded to first: "bfloat16" for karpathy/nanochat's
            models of 2025. None rounds them to the dtype of the hidden states only.
        final_logit_softcapping: logits z become cap x tanh(z / cap); None turns it off.
        attention_dropout: probability of dropping an attention weight while training.
        query_key_scale: factor of queries and keys after their norm; 1.2 in 2026.
        layer_types: "full_attention" or "sliding_attention" for each layer; None means full attention in all.
        sliding_window: tokens that a layer with sliding attention sees, the token itself among them.
        value_embeddings: whether every other layer, the last among them, adds a gated embedding of the token to its
            values (arXiv 2410.17897). They are looked up by token id.
        residual_scalars: whether each block's input is a learnt mix of the residual stream and the first embedding.
        smear: whether each token's embedding gets a learnt share of the one before it.
        backout: whether a learnt share of the residual stream halfway up is subtracted from the last one.
        pad_vocab_size_multiple: embeddings and head have rows up to a multiple of this; the logits do not show them.
        initial_embedding_std: standard deviation of a fresh embedding; 0.8 in 2026.
        initial_head_std: standard deviation of a fresh head; 0 in 2025, 0.001 in 2026.
        initial_fc1_scale: factor of the fresh first matrix of each MLP; 0.4 in 2026.
        bos_token_id, eos_token_id, pad_token_id: ids of the special tokens, or None. transformers reads them from
            every config, but its base class does not define them.
    """

    model_type = "nanochat_gpt"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  (must be a list: Trainer adds to it)
    base_model_tp_plan = {  # noqa: RUF012  (read from the class by transformers)
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.fc1": "colwise",
        "layers.*.mlp.fc2": "rowwise",
    }

    def __init__(
        self,
        vocab_size: int = 65536,
        hidden_size: int = 1280,
        intermediate_size: int | None = None,
        num_hidden_layers: int = 20,
        num_attention_heads: int = 10,
        num_key_value_heads: int | None = None,
        max_position_embeddings: int = 2048,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        rotary_dtype: str | None = None,
        final_logit_softcapping: float | None = 15.0,
        attention_dropout: float = 0.0,
        query_key_scale: float = 1.0,
        layer_types: list[str] | None = None,
        sliding_window: int | None = None,
        value_embeddings: bool = False,
        residual_scalars: bool = False,
        smear: bool = False,
        backout: bool = False,
        pad_vocab_size_multiple: int = 1,
        initial_embedding_std: float = 1.0,
        initial_head_std: float = 0.0,
        initial_fc1_scale: float = 1.0,
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        **kwargs,
    ) -> None:
        # `pipeline` makes the config first, and then looks up the class of the pipeline.
        if "transformers.pipelines" in sys.modules:
            from .generation_nanochat import NanochatGPTTextPipeline  # noqa: F401  (registers it)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = 4 * hidden_size if intermediate_size is None else intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        # transformers' NanoChatConfig stores the base in a dictionary.
        self.rope_theta = (kwargs.pop("rope_parameters", None) or {}).get("rope_theta", rope_theta)
        self.rotary_dtype = rotary_dtype
        self.final_logit_softcapping = final_logit_softcapping
        self.attention_dropout = attention_dropout
        self.query_key_scale = query_key_scale
        if layer_types is not None:  # not set otherwise: transformers would look for a window
            self.layer_types, self.sliding_window = list(layer_types), sliding_window
        self.value_embeddings = value_embeddings
        self.residual_scalars = residual_scalars
        self.smear = smear
        self.backout = backout
        self.pad_vocab_size_multiple = pad_vocab_size_multiple
        self.initial_embedding_std = initial_embedding_std
        self.initial_head_std = initial_head_std
        self.initial_fc1_scale = initial_fc1_scale
        self.use_cache = use_cache
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
        self._check()
        if value_embeddings:
            # transformers splits a table, too, but gives each rank its whole vectors, and not those of the rank's own
            # heads: so attention stays whole.
            plan = {name: how for name, how in self.base_model_tp_plan.items() if "self_attn" not in name}
            self.base_model_tp_plan = plan | {"value_embeds.*": "embedding_rowwise"}
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    def _check(self) -> None:
        """Raise `ValueError` for sizes that do not fit together."""
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads "
                f"{self.num_attention_heads}, and that a multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        if (self.smear or self.value_embeddings) and self.hidden_size < SMEAR_CHANNELS:
            raise ValueError(
                f"hidden_size {self.hidden_size} is too small: the gates read {SMEAR_CHANNELS} channels of it"
            )
        if not hasattr(self, "layer_types"):
            return
        if len(self.layer_types) != self.num_hidden_layers or set(self.layer_types) - set(ATTENTION.values()):
            raise ValueError(
                f"layer_types must name {' or '.join(ATTENTION.values())} for each of the {self.num_hidden_layers} "
                f"layers, not {self.layer_types}"
            )
        if "sliding_attention" in self.layer_types and (self.sliding_window is None or self.sliding_window < 2):
            raise ValueError(
                f"sliding attention needs a sliding_window of 2 tokens or more, not {self.sliding_window}"
            )

    @classmethod
    def from_depth(
        cls,
        depth: int,
        vocab_size: int | None = None,
        head_dim: int = 128,
        generation: int = 2025,
        window_pattern: str | None = None,
        **kwargs,
    ) -> "NanochatGPTConfig":
        """Config of a model with `depth` blocks: 64 x depth wide, rounded up to a multiple of `head_dim`.

        Args:
            generation: 2025, or 2026 for all features of nanochat's models of July 2026.
            vocab_size: None means 65,536 in 2025 and 32,768 in 2026.
            window_pattern: letters that are repeated over the layers, S for a short window and L for the whole
                context, as in `apply_window_pattern`. None means L in 2025 and SSSL in 2026.
        """
        if generation not in GENERATIONS:
            raise ValueError(f"generation {generation!r} is not one of {', '.join(map(str, GENERATIONS))}")
        if depth < 1:
            raise ValueError(f"depth {depth} is not a number of blocks: it must be at least 1")
        settings = {"vocab_size": 65536, "window_pattern": "L"} | GENERATIONS[generation]
        given = {"vocab_size": vocab_size, "window_pattern": window_pattern}
        settings |= {name: value for name, value in given.items() if value is not None} | kwargs
        pattern = settings.pop("window_pattern")
        num_heads = max(1, -(-64 * depth // head_dim))  # -(-a // b) rounds up
        config = cls(
            hidden_size=num_heads * head_dim, num_hidden_layers=depth, num_attention_heads=num_heads, **settings
        )
        config.apply_window_pattern(pattern)
        return config

    def apply_window_pattern(self, pattern: str) -> None:
        """Set the attention of each layer by nanochat's letters, repeated over the layers; the last is always L.

        S sees the token itself and a quarter of the context before it, rounded up to a multiple of 128 tokens.
        Raises `ValueError` for other letters.
        """
        if not isinstance(pattern, str) or not pattern or set(pattern) - set("SLsl"):
            raise ValueError(f"window pattern {pattern!r} must be made of the letters S (short) and L (long)")
        letters = (pattern.upper() * self.num_hidden_layers)[: self.num_hidden_layers - 1] + "L"
        if "S" not in letters:
            return
        self.layer_types = [ATTENTION[letter] for letter in letters]
        self.sliding_window = -(-self.max_position_embeddings // (4 * 128)) * 128 + 1

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embeddings and of the head."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    @property
    def value_layers(self) -> list[int]:
        """Layers that have a value embedding: every other one, counted back from the last."""
        n = self.num_hidden_layers
        return [i for i in range(n) if i % 2 == (n - 1) % 2] if self.value_embeddings else []

    def is_sliding(self, layer_idx: int) -> bool:
        """Whether the layer sees a window only, and not all tokens before."""
        return hasattr(self, "layer_types") and self.layer_types[layer_idx] == "sliding_attention"

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters by group: embedding, head, attention, mlp, in 2026 those of its features, and total."""
        n, D, kv_size = self.num_hidden_layers, self.hidden_size, self.num_key_value_heads * self.head_dim
        num_tables = len(self.value_layers)
        features = {
            "value_embeddings": num_tables * self.padded_vocab_size * kv_size,
            "gates": num_tables * self.num_key_value_heads * VALUE_GATE_CHANNELS,
            "scalars": 2 * n * self.residual_scalars + (SMEAR_CHANNELS + 1) * self.smear + self.backout,
        }
        groups = {
            "embedding": self.padded_vocab_size * D,
            "head": 0 if self.tie_word_embeddings else self.padded_vocab_size * D,
            "attention": n * 2 * D * (D + kv_size),
            "mlp": n * 2 * D * self.intermediate_size,
            **{name: count for name, count in features.items() if count},
        }
        return {**groups, "total": sum(groups.values())}

    def flops_per_token(self, sequence_length: int | None = None) -> int:
        """Training FLOPs per token, forward and backward (PaLM, arXiv 2204.02311, appendix B).

        6 per parameter of a matrix product (embeddings are lookups), plus 12 x heads x head_dim x length per layer
        for attention. The length is the whole row, as is usual for MFU, though causal attention needs half; in a layer
        with a window, it is the tokens before the current one that the window holds.
        """
        length = self.max_position_embeddings if sequence_length is None else sequence_length
        counts = self.parameter_counts()
        matmul_parameters = (
            counts["attention"]
            + counts["mlp"]
            + counts.get("gates", 0)
            + SMEAR_CHANNELS * self.smear
            + self.padded_vocab_size * self.hidden_size
        )
        attended = sum(
            min(length, self.sliding_window - 1) if self.is_sliding(layer_idx) else length
            for layer_idx in range(self.num_hidden_layers)
        )
        return 6 * matmul_parameters + 12 * self.hidden_size * attended


__all__ = ["NanochatGPTConfig"]
