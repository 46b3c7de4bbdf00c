"""Fresh weights are the same kind of random whichever way the model comes to be."""

import math

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import random_ids, random_model, tiny_config

# Grouped-query attention and an odd MLP width give nearly every matrix a fan-in or a shape of its own.
CONFIG = tiny_config(hidden_size=128, num_key_value_heads=2, intermediate_size=320)


def constructed() -> NanochatGPTForCausalLM:
    return NanochatGPTForCausalLM(CONFIG)


def from_config() -> NanochatGPTForCausalLM:
    return AutoModelForCausalLM.from_config(CONFIG)


def on_meta() -> NanochatGPTForCausalLM:
    with torch.device("meta"):
        return NanochatGPTForCausalLM(CONFIG)


def materialized() -> NanochatGPTForCausalLM:
    """Garbage where a meta model's weights will be; whatever is not initialized stays a 7."""
    model = on_meta().to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    return model


def from_meta_by_init_weights() -> NanochatGPTForCausalLM:
    model = materialized()
    model.init_weights()
    return model


def from_meta_by_apply() -> NanochatGPTForCausalLM:
    model = materialized()
    return model.apply(model._init_weights)


def assert_initialized(name: str, weight: torch.Tensor) -> None:
    """`weight` looks drawn from the distribution that the parameter `name` starts with."""
    if name.endswith(("o_proj.weight", "fc2.weight", "lm_head.weight")):
        assert weight.count_nonzero() == 0, name
        return
    std = 1.0 if "embed_tokens" in name else weight.size(1) ** -0.5
    tolerance = 5 * std / math.sqrt(weight.numel())
    assert weight.mean().item() == pytest.approx(0, abs=tolerance), name
    assert weight.std().item() == pytest.approx(std, abs=tolerance), name
    if "embed_tokens" in name:
        assert weight.abs().max() > 2.5, name  # a normal has tails
    else:
        assert 0.98 * math.sqrt(3) * std < weight.abs().max() <= math.sqrt(3) * std, name  # a uniform has none


@pytest.mark.parametrize("build", [constructed, from_config, from_meta_by_init_weights, from_meta_by_apply])
def test_weights_start_as_designed(build):
    torch.manual_seed(0)
    for name, parameter in build().named_parameters():
        assert_initialized(name, parameter)


def test_same_seed_same_weights():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(constructed().state_dict())
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.fc1.weight"):
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("skip_logits", [False, True])
def test_first_loss_is_the_logarithm_of_the_vocabulary(skip_logits):
    ids = random_ids(2, 16)
    loss = constructed()(ids, labels=ids, skip_logits=skip_logits).loss
    assert loss.item() == pytest.approx(math.log(CONFIG.vocab_size), rel=1e-6)


def test_blocks_start_as_the_identity():
    states = constructed()(random_ids(1, 8), output_hidden_states=True).hidden_states
    assert torch.equal(states[0], states[1])


@pytest.mark.parametrize(
    "missing",
    [
        ["model.embed_tokens.weight"],
        ["lm_head.weight"],
        ["model.layers.0.self_attn.o_proj.weight", "model.layers.1.self_attn.q_proj.weight"],
        ["model.layers.1.mlp.fc1.weight", "model.layers.1.mlp.fc2.weight"],
    ],
)
def test_missing_weights_are_initialized_and_the_others_kept(tmp_path, missing):
    saved = random_model(**CONFIG.to_diff_dict())
    saved.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: weight for name, weight in load_file(path).items() if name not in missing}
    save_file(kept, path, metadata={"format": "pt"})

    loaded, info = NanochatGPTForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(missing)
    for name, weight in loaded.named_parameters():
        if name in missing:
            assert_initialized(name, weight)
        else:
            assert torch.equal(weight, kept[name]), name


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_weights_start_as_designed_under_fsdp(process_group):
    torch.manual_seed(0)
    mesh = dist.init_device_mesh("cpu", (1,))
    model = on_meta()
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh)
    model.to_empty(device="cpu")
    model.init_weights()
    for name, parameter in model.named_parameters():
        assert_initialized(name, parameter.full_tensor())
