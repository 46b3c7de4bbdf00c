"""LoRA adapters: on which layers, how many, saved and loaded whole, merged exactly."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
from trl import ModelConfig

from modeling_nanochat import NanochatGPTConfig
from recipes.training.adapters import (
    add_adapters,
    add_lora,
    facts_with_adapters,
    load_adapters,
    lora_config,
    save_adapters,
    save_and_merge,
)
from recipes.training.memory import estimate_memory
from recipes.training.models import model_facts
from recipes.utils.errors import InputError

CONFIGS = {
    "gpt2": GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=64, vocab_size=100),
    "llama": LlamaConfig(
        num_hidden_layers=2, num_attention_heads=2, hidden_size=32, intermediate_size=64, vocab_size=100
    ),
    "nanochat": NanochatGPTConfig.from_depth(2, vocab_size=100, max_position_embeddings=64),
}
IDS = torch.arange(24).view(2, 12)


def fresh(name: str, targets: list[str] | None = None, rank: int = 4) -> torch.nn.Module:
    """A small model with adapters that are not 0, as after training."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.1)
    return stir(add_lora(model, lora_config(rank, 8, 0.0, targets)))


@torch.no_grad()
def stir(model: torch.nn.Module) -> torch.nn.Module:
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.1)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_on_all_linear_layers_are_counted_and_alone_trained(name):
    model = fresh(name)
    trained = {path: p.numel() for path, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in path for path in trained)
    config = CONFIGS[name]
    plain = model_facts(config, 64, "x" if name != "nanochat" else None)
    facts = facts_with_adapters(plain, config, lora_config(4, 8, 0.0, None))
    assert facts.adapters.num_parameters == sum(trained.values())
    assert set(facts.adapters.layers) == {path.split(".")[-4] for path in trained}
    assert not {"lm_head", "wte"} & set(facts.adapters.layers)
    assert facts.num_parameters == plain.num_parameters
    assert 0.6 < facts.flops_per_token / plain.flops_per_token < 1.2


def test_frozen_weights_need_no_gradient_and_no_moments():
    config = CONFIGS["gpt2"]
    plain = model_facts(config, 64, "x")
    adapted = facts_with_adapters(plain, config, lora_config(4, 8, 0.0, None))
    whole, lora = (estimate_memory(facts, 1, 64, True, "adamw") for facts in (plain, adapted))
    assert whole["optimizer"] == 8 * plain.num_parameters
    assert lora["gradients"] == 4 * adapted.adapters.num_parameters
    assert lora["optimizer"] == 8 * adapted.adapters.num_parameters
    assert lora["weights"] > whole["weights"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_merged_model_computes_what_the_adapted_one_did(name, tmp_path):
    model = fresh(name).eval()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        merged = save_and_merge(model, tmp_path / "adapter")
        torch.testing.assert_close(merged(input_ids=IDS).logits, before, rtol=1e-3, atol=1e-4)
    assert not [path for path, _ in merged.named_parameters() if "lora" in path]
    assert (tmp_path / "adapter" / "adapter_config.json").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_come_back_bit_for_bit_and_without_what_they_adapt(name, tmp_path):
    model = fresh(name)
    save_adapters(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert saved and all("lora_" in path for path in saved)
    torch.manual_seed(1)
    other = stir(add_lora(AutoModelForCausalLM.from_config(CONFIGS[name]), lora_config(4, 8, 0.0, None)))
    load_adapters(other, tmp_path)
    theirs = dict(model.named_parameters())
    for path, parameter in other.named_parameters():
        assert "lora_" not in path or torch.equal(parameter, theirs[path]), path


def test_other_adapters_are_one_clear_line(tmp_path):
    save_adapters(fresh("gpt2", ["c_attn"]), tmp_path)
    with pytest.raises(InputError, match=r"holds other adapters than this run trains: .*c_proj.* does not fit\.$"):
        load_adapters(fresh("gpt2"), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file({path: each[:1] for path, each in weights.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"holds other adapters than this run trains: .* is \(1, .* and not \("):
        load_adapters(fresh("gpt2", ["c_attn"]), tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no adapters, which this run trains"):
        load_adapters(fresh("gpt2"), tmp_path)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["query"], "the model has no layer query; its linear ones are c_attn, c_proj, c_fc."),
        (["c_attn", "attn.c_fc"], "the model has no layer attn.c_fc; its linear"),
        (["ln_1"], "lora_target_modules: Target module LayerNorm"),
    ],
)
def test_a_layer_that_is_not_there_or_takes_none_is_one_clear_line(targets, said):
    with pytest.raises(InputError) as error:
        fresh("gpt2", targets)
    assert str(error.value).startswith("lora_target_modules: ") and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("targets", [["c_attn"], ["attn.c_attn"], ["all-linear"]])
def test_a_name_means_the_same_in_pretraining_and_in_sft(targets):
    config = CONFIGS["gpt2"]
    given = ModelConfig(use_peft=True, lora_r=4, lora_alpha=8, lora_target_modules=list(targets))
    by_sft = add_adapters(AutoModelForCausalLM.from_config(config), given)
    by_pretraining = add_lora(AutoModelForCausalLM.from_config(config), lora_config(4, 8, 0.05, targets))
    assert by_sft.targeted_module_names == by_pretraining.targeted_module_names != []
