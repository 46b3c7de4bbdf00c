"""Fresh weights are the same kind of random whichever way the model comes to be."""

import math

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import assert_close, random_ids, randomized, tiny_config


@pytest.fixture
def config(generation) -> NanochatGPTConfig:
    """Grouped-query attention and an odd MLP width give nearly every matrix a fan-in or a shape of its own."""
    return tiny_config(generation, hidden_size=128, num_key_value_heads=2, intermediate_size=320)


def constructed(config) -> NanochatGPTForCausalLM:
    return NanochatGPTForCausalLM(config)


def from_config(config) -> NanochatGPTForCausalLM:
    return AutoModelForCausalLM.from_config(config)


def on_meta(config) -> NanochatGPTForCausalLM:
    with torch.device("meta"):
        return NanochatGPTForCausalLM(config)


def materialized(config) -> NanochatGPTForCausalLM:
    """Garbage where a meta model's weights will be; whatever is not initialized stays a 7."""
    model = on_meta(config).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    return model


def from_meta_by_init_weights(config) -> NanochatGPTForCausalLM:
    model = materialized(config)
    model.init_weights()
    return model


def from_meta_by_apply(config) -> NanochatGPTForCausalLM:
    model = materialized(config)
    return model.apply(model._init_weights)


# What nanochat of July 2026 starts its scalars with, in three layers.
SCALARS = {
    "model.resid_lambdas": [1.15, 1.10, 1.05],
    "model.x0_lambdas": [0.20, 0.125, 0.05],
    "model.smear_lambda": [0.0],
    "model.backout_lambda": [0.2],
}


def assert_initialized(name: str, weight: torch.Tensor, config: NanochatGPTConfig) -> None:
    """`weight` looks drawn from the distribution that the parameter `name` starts with."""
    in_2026 = config.residual_scalars
    if name in SCALARS:
        assert_close(weight, torch.tensor(SCALARS[name]), 1e-6)
        return
    if name.endswith(("o_proj.weight", "fc2.weight")) or (name == "lm_head.weight" and not in_2026):
        assert weight.count_nonzero() == 0, name
        return
    if "gate" in name:
        assert weight.min() >= 0 and weight.max() <= 0.02 and weight.unique().numel() == weight.numel(), name
        assert weight.mean().item() == pytest.approx(0.01, abs=5 * 0.02 / math.sqrt(12 * weight.numel())), name
        return
    if "embed_tokens" in name:
        std = 0.8 if in_2026 else 1.0
    elif name == "lm_head.weight":
        std = 0.001
    elif "value_embeds" in name:
        std = config.hidden_size**-0.5
    else:
        std = weight.size(1) ** -0.5 * (0.4 if in_2026 and "fc1" in name else 1)
    tolerance = 5 * std / math.sqrt(weight.numel())
    assert weight.mean().item() == pytest.approx(0, abs=tolerance), name
    assert weight.std().item() == pytest.approx(std, abs=tolerance), name
    if "embed_tokens" in name or name == "lm_head.weight":
        assert weight.abs().max() > 2.5 * std, name  # a normal has tails
    else:
        largest = math.sqrt(3) * std
        assert 0.98 * largest < weight.abs().max() <= 1.00001 * largest, name  # a uniform has none


@pytest.mark.parametrize("build", [constructed, from_config, from_meta_by_init_weights, from_meta_by_apply])
def test_weights_start_as_designed(build, config):
    torch.manual_seed(0)
    for name, parameter in build(config).named_parameters():
        assert_initialized(name, parameter, config)


def test_same_seed_same_weights(config):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(constructed(config).state_dict())
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.fc1.weight"):
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("skip_logits", [False, True])
def test_first_loss_is_the_logarithm_of_the_vocabulary(config, skip_logits):
    ids = random_ids(2, 16)
    loss = constructed(config)(ids, labels=ids, skip_logits=skip_logits).loss
    assert loss.item() == pytest.approx(math.log(config.vocab_size), rel=1e-2 if config.initial_head_std else 1e-6)


def test_blocks_start_as_the_identity_up_to_the_scalars(config):
    states = constructed(config)(random_ids(1, 8), output_hidden_states=True).hidden_states
    assert_close(states[1], states[0] * (1.35 if config.residual_scalars else 1), 1e-6)


@pytest.mark.parametrize(
    "missing",
    [
        ["model.embed_tokens.weight"],
        ["lm_head.weight"],
        ["model.layers.0.self_attn.o_proj.weight", "model.layers.1.self_attn.q_proj.weight"],
        ["model.layers.1.mlp.fc1.weight", "model.layers.1.mlp.fc2.weight"],
        ["model.value_embeds.0.weight", "model.smear_gate.weight", "model.layers.2.self_attn.ve_gate.weight"],
        ["model.resid_lambdas", "model.smear_lambda"],
        ["model.x0_lambdas", "model.backout_lambda"],
    ],
)
def test_missing_weights_are_initialized_and_the_others_kept(tmp_path, config, missing):
    saved = randomized(NanochatGPTForCausalLM(config))
    if not set(missing) <= set(saved.state_dict()):
        pytest.skip("2025 has no such weights")
    saved.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: weight for name, weight in load_file(path).items() if name not in missing}
    save_file(kept, path, metadata={"format": "pt"})

    loaded, info = NanochatGPTForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(missing)
    for name, weight in loaded.named_parameters():
        if name in missing:
            assert_initialized(name, weight, config)
        else:
            assert torch.equal(weight, kept[name]), name


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_weights_start_as_designed_under_fsdp(process_group, config):
    torch.manual_seed(0)
    mesh = dist.init_device_mesh("cpu", (1,))
    model = on_meta(config)
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh)
    model.to_empty(device="cpu")
    model.init_weights()
    for name, parameter in model.named_parameters():
        assert_initialized(name, parameter.full_tensor(), config)


def test_ddp_has_no_buffers_to_send(process_group, config):
    assert dict(NanochatGPTForCausalLM(config).named_buffers())
    assert not torch.nn.parallel.DistributedDataParallel(NanochatGPTForCausalLM(config)).modules_buffers
