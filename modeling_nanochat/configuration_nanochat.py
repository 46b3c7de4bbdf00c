"""Configuration of NanochatGPT. One dial, the depth, sets every size (`NanochatGPTConfig.from_depth`)."""

import sys

from transformers import PretrainedConfig


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
        rms_norm_eps: epsilon of every RMSNorm (they have no weights).
        rope_theta: base of the rotary frequencies.
        rotary_dtype: dtype that the rotary cosines and sines are rounded to first: "bfloat16" for karpathy/nanochat's
            models of 2025. None rounds them to the dtype of the hidden states only.
        final_logit_softcapping: logits z become cap x tanh(z / cap); None turns it off.
        attention_dropout: probability of dropping an attention weight while training.
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
        self.use_cache = use_cache
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
        if hidden_size % num_attention_heads or num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {hidden_size} must be a multiple of num_attention_heads {num_attention_heads}, "
                f"and that a multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    @classmethod
    def from_depth(cls, depth: int, vocab_size: int = 65536, head_dim: int = 128, **kwargs) -> "NanochatGPTConfig":
        """Config of a model with `depth` blocks: 64 x depth wide, rounded up to a multiple of `head_dim`."""
        num_heads = max(1, -(-64 * depth // head_dim))  # -(-a // b) rounds up
        return cls(
            vocab_size=vocab_size,
            hidden_size=num_heads * head_dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            **kwargs,
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters by group: embedding, head, attention, mlp, total."""
        kv_size = self.num_key_value_heads * self.head_dim
        groups = {
            "embedding": self.vocab_size * self.hidden_size,
            "head": 0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size,
            "attention": self.num_hidden_layers * 2 * self.hidden_size * (self.hidden_size + kv_size),
            "mlp": self.num_hidden_layers * 2 * self.hidden_size * self.intermediate_size,
        }
        return {**groups, "total": sum(groups.values())}

    def flops_per_token(self, sequence_length: int | None = None) -> int:
        """Training FLOPs per token, forward and backward (PaLM, arXiv 2204.02311, appendix B).

        6 per parameter of a matrix product (the embedding is a lookup), plus 12 x heads x head_dim x length per
        layer for attention. The length is the whole row, as is usual for MFU, though causal attention needs half.
        """
        length = self.max_position_embeddings if sequence_length is None else sequence_length
        counts = self.parameter_counts()
        matmul_parameters = counts["attention"] + counts["mlp"] + self.vocab_size * self.hidden_size
        return 6 * matmul_parameters + self.num_hidden_layers * 12 * self.hidden_size * length


__all__ = ["NanochatGPTConfig"]
