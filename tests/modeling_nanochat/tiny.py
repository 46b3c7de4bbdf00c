"""Models small enough for the tests, with every weight random: fresh ones end in zeros, which would prove nothing."""

import torch

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM

VOCAB_SIZE = 131
GENERATIONS = [2025, 2026]
WINDOW = 5  # tokens that a layer with a window sees, fewer than the texts of the tests have
SIZES = {
    2025: {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
}
# Three layers: the first and the last have value embeddings, and backout's is not the last.
SIZES[2026] = SIZES[2025] | {
    "num_hidden_layers": 3,
    "rope_theta": 100_000.0,
    "query_key_scale": 1.2,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "sliding_window": WINDOW,
    "value_embeddings": True,
    "residual_scalars": True,
    "smear": True,
    "backout": True,
    "pad_vocab_size_multiple": 64,
    "initial_embedding_std": 0.8,
    "initial_head_std": 0.001,
    "initial_fc1_scale": 0.4,
}
# What `random_model` makes for tests of generation.
MODELS = {
    "as many key heads": {},
    "grouped queries": {"num_key_value_heads": 2},
    "2026": {"generation": 2026, "num_key_value_heads": 2},
}


def tiny_config(generation: int = 2025, **changes) -> NanochatGPTConfig:
    """Two or three layers, 64 wide, four heads, every feature of its generation; `changes` override its fields."""
    return NanochatGPTConfig(**{**SIZES[generation], **changes})


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """`model` with all its weights drawn anew, with deviation 1 in embeddings and 0.2 elsewhere, scalars around 0.8.

    The scalars are then far from what they start with, and no feature is too weak to be seen.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = 1.0 if "embed_tokens" in name or "value_embeds" in name else 0.2
            mean = 0.8 if "lambda" in name else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std + mean)
    return model


def random_model(seed: int = 0, generation: int = 2025, **changes) -> NanochatGPTForCausalLM:
    """A tiny model with random weights, ready to use."""
    return randomized(NanochatGPTForCausalLM(tiny_config(generation, **changes)), seed).eval()


def random_ids(*shape: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
    """Token ids of the given shape, none of them 0, which the tests pad with."""
    return torch.randint(1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def embeddings_for(model: torch.nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What stands for `ids` (B, T) in a call of `model`: their embeddings, and per-layer inputs if it needs them."""
    embeddings = {"inputs_embeds": model.get_input_embeddings()(ids)}
    if model.config.value_embeddings:
        embeddings["per_layer_inputs"] = model.get_per_layer_inputs(ids)
    return embeddings


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of every parameter by name; each must have one that is not zero."""
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(gradient.any() for gradient in found.values())
    return found


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance`, absolute and relative."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)
