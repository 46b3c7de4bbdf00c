"""Models small enough for the tests, with every weight random: fresh ones end in zeros, which would prove nothing."""

import torch

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM

VOCAB_SIZE = 131


def tiny_config(**changes) -> NanochatGPTConfig:
    """Two layers, 64 wide, four heads; `changes` override its fields."""
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    return NanochatGPTConfig(**{**sizes, **changes})


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """`model` with all its weights drawn anew: N(0, 1) for the embedding, N(0, 0.2) for the matrices."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = 1.0 if "embed_tokens" in name else 0.2
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model


def random_model(seed: int = 0, **changes) -> NanochatGPTForCausalLM:
    """A tiny model with random weights, ready to use."""
    return randomized(NanochatGPTForCausalLM(tiny_config(**changes)), seed).eval()


def random_ids(*shape: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
    """Token ids of the given shape, none of them 0, which the tests pad with."""
    return torch.randint(1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of every parameter by name; each must have one that is not zero."""
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(gradient.any() for gradient in found.values())
    return found


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance`, absolute and relative."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)
