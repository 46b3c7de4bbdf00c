"""The format of karpathy/nanochat's checkpoints of 2025 and 2026: files, sizes, constants, names of the parameters.

A checkpoint holds sizes only; what else a model is made of is fixed in the code of its time. The code of July 2026 is
the reference for 2026: what it does not load cannot be converted either, such as the checkpoints of mid-January to
mid-March 2026, which lack some of its parameters.
"""

import re

import torch

from modeling_nanochat import NanochatGPTConfig
from modeling_nanochat.configuration_nanochat import GENERATIONS

WEIGHTS = re.compile(r"model_(\d+)\.pt")
TOKENIZER = "tokenizer.pkl"
TOKEN_BYTES = "token_bytes.pt"  # bytes of each token, for bits per byte
SIZES = {
    "sequence_len": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_head": "num_key_value_heads",
    "n_embd": "hidden_size",
}
WINDOW_PATTERN = "window_pattern"  # the only entry of the model's config that 2026 has and 2025 lacks
NEW_IN_2026 = re.compile(
    r"(transformer\.h\.\d+\.attn\.ve_gate|value_embeds\.\d+|smear_gate)\.weight|(resid|x0)_lambdas|(smear|backout)_lambda"
)
# Its code calls F.rms_norm without an epsilon; the default is fp32's machine epsilon, also for bf16.
RMS_NORM_EPS = torch.finfo(torch.float32).eps
CONSTANTS_2025 = {"rms_norm_eps": RMS_NORM_EPS, "rotary_dtype": "bfloat16"}
CONSTANTS_2026 = {
    name: value for name, value in GENERATIONS[2026].items() if name not in ("vocab_size", WINDOW_PATTERN)
}


def parameter_names(config: NanochatGPTConfig) -> dict[str, str]:
    """Our name of each parameter of a model by nanochat's name."""
    names = {"transformer.wte.weight": "model.embed_tokens.weight", "lm_head.weight": "lm_head.weight"}
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"transformer.h.{layer}", f"model.layers.{layer}"
        names |= {f"{theirs}.attn.c_{each}.weight": f"{ours}.self_attn.{each}_proj.weight" for each in "qkv"}
        names[f"{theirs}.attn.c_proj.weight"] = f"{ours}.self_attn.o_proj.weight"
        names[f"{theirs}.mlp.c_fc.weight"] = f"{ours}.mlp.fc1.weight"
        names[f"{theirs}.mlp.c_proj.weight"] = f"{ours}.mlp.fc2.weight"
    for layer in config.value_layers:
        names[f"value_embeds.{layer}.weight"] = f"model.value_embeds.{layer}.weight"
        names[f"transformer.h.{layer}.attn.ve_gate.weight"] = f"model.layers.{layer}.self_attn.ve_gate.weight"
    features = {
        "residual_scalars": ("resid_lambdas", "x0_lambdas"),
        "smear": ("smear_gate.weight", "smear_lambda"),
        "backout": ("backout_lambda",),
    }
    used = [name for feature, each in features.items() if getattr(config, feature) for name in each]
    return names | {name: f"model.{name}" for name in used}


def window_pattern(config: NanochatGPTConfig) -> str:
    """The shortest pattern that gives each layer its attention; SSSL, the usual one, where it fits."""
    letters = "".join("S" if config.is_sliding(layer) else "L" for layer in range(config.num_hidden_layers))
    patterns = ["L", "SSSL", *(letters[:end] for end in range(1, len(letters) + 1))]
    tiled = ((pattern * len(letters))[: len(letters) - 1] for pattern in patterns)
    return next(
        pattern for pattern, each in zip(patterns, tiled, strict=True) if each == letters[:-1]
    )  # the last is L
