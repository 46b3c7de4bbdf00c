"""Weights that are not those of their config.json are told in one line, by the likeliest cause."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, PretrainedConfig
from transformers.utils import logging

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM, NanochatGPTModel
from recipes.utils.errors import InputError
from recipes.utils.loading import load_weights

WEIGHTS = "model.safetensors"


def config_of(generation: int = 2026, depth: int = 2, vocab_size: int = 700, **settings) -> NanochatGPTConfig:
    return NanochatGPTConfig.from_depth(depth, vocab_size, **{"head_dim": 32, "generation": generation} | settings)


def saved(config: PretrainedConfig, directory: Path) -> Path:
    kind = GPT2LMHeadModel if isinstance(config, GPT2Config) else NanochatGPTForCausalLM
    kind(config).save_pretrained(directory)
    return directory


def with_weights_of(other: PretrainedConfig, config: PretrainedConfig, place: Path) -> Path:
    directory = saved(config, place / "model")
    shutil.copy(saved(other, place / "other") / WEIGHTS, directory)
    return directory


def edit_weights(directory: Path, added: dict[str, torch.Tensor], removed: tuple[str, ...] = ()) -> None:
    weights = load_file(directory / WEIGHTS) | added
    save_file(
        {name: each for name, each in weights.items() if name not in removed}, directory / WEIGHTS, {"format": "pt"}
    )


def edit_config(directory: Path, **changes) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))


def complaint(directory: Path) -> str:
    """What is wrong with the weights, without the sentence's beginning."""
    with pytest.raises(InputError) as error:
        load_weights(str(directory), None)
    beginning = f"the weights in {directory} are not those of its config.json: "
    assert str(error.value).startswith(beginning) and "\n" not in str(error.value)
    return str(error.value).removeprefix(beginning)


GPT2 = {"n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        (config_of(2025), config_of(2025, depth=3), "they have 3 layers and not 2."),
        (config_of(2026), config_of(2026, depth=3), "they have 3 layers and not 2."),
        (config_of(2025, depth=3), config_of(2025), "they have 2 layers and not 3."),
        (config_of(2026, depth=3), config_of(2026), "they have 2 layers and not 3."),
        (
            config_of(2025, vocab_size=800),
            config_of(2025),
            "model.embed_tokens.weight has 700 rows and not 800, as vocab_size 800 says.",
        ),
        (
            config_of(2026, vocab_size=1800),
            config_of(2026),
            "model.embed_tokens.weight has 704 rows and not 1,856, as vocab_size 1,800 says.",
        ),
        (
            config_of(2026, head_dim=256),
            config_of(2026),
            "model.embed_tokens.weight is 128 wide and not 256, as hidden_size says.",
        ),
        (
            config_of(2025, num_key_value_heads=2),
            config_of(2025),
            "model.layers.0.self_attn.k_proj.weight is (128, 128) and not (64, 128).",
        ),
        (GPT2Config(n_layer=2, **GPT2), GPT2Config(n_layer=3, **GPT2), "they have 3 layers and not 2."),
        (GPT2Config(n_layer=3, **GPT2), GPT2Config(n_layer=2, **GPT2), "they have 2 layers and not 3."),
    ],
)
def test_sizes_that_contradict_the_config(config, weights, said, tmp_path):
    assert complaint(with_weights_of(weights, config, tmp_path)) == said


def test_weights_of_another_generation(tmp_path):
    named = "model.backout_lambda, model.layers.1.self_attn.ve_gate.weight, model.resid_lambdas and 4 more are"
    directory = with_weights_of(config_of(2026), config_of(2025), tmp_path / "2025")
    assert complaint(directory) == f"{named} not part of the model."
    directory = with_weights_of(config_of(2025), config_of(2026), tmp_path / "2026")
    assert complaint(directory) == f"{named} missing."


@pytest.mark.parametrize(
    ("feature", "names"),
    [
        ("smear", "model.smear_gate.weight, model.smear_lambda are"),
        ("backout", "model.backout_lambda is"),
        ("residual_scalars", "model.resid_lambdas, model.x0_lambdas are"),
        ("value_embeddings", "model.layers.1.self_attn.ve_gate.weight, model.value_embeds.1.weight are"),
    ],
)
def test_a_feature_that_only_the_config_or_only_the_weights_have(feature, names, tmp_path):
    edit_config(saved(config_of(2026), tmp_path / "off"), **{feature: False})
    assert complaint(tmp_path / "off") == f"{names} not part of the model."
    edit_config(saved(config_of(2025), tmp_path / "on"), **{feature: True})
    assert complaint(tmp_path / "on") == f"{names} missing."


def test_every_weight_is_missed(tmp_path):
    directory = saved(config_of(2026), tmp_path)
    whole = load_file(directory / WEIGHTS)
    for name in whole:
        edit_weights(directory, whole, removed=(name,))
        assert complaint(directory) == f"{name} is missing."


def test_a_layer_amid_the_others_is_named_and_not_counted(tmp_path):
    directory = saved(config_of(2025, depth=3), tmp_path)
    lost = tuple(name for name in load_file(directory / WEIGHTS) if name.startswith("model.layers.1."))
    edit_weights(directory, {}, removed=lost)
    assert complaint(directory).endswith(" and 3 more are missing.")


@pytest.mark.parametrize("config", [config_of(), GPT2Config(n_layer=1, **GPT2)], ids=["ours", "gpt2"])
def test_a_weight_that_the_model_does_not_use(config, tmp_path):
    edit_weights(saved(config, tmp_path), {"model.bigram.weight": torch.zeros(3)})
    assert complaint(tmp_path) == "model.bigram.weight is not part of the model."


def test_transformers_table_of_what_does_not_fit_is_not_printed(tmp_path, capfd):
    verbosity = logging.get_verbosity()
    try:
        logging.set_verbosity_warning()
        complaint(with_weights_of(config_of(2025), config_of(2026), tmp_path))
    finally:
        logging.set_verbosity(verbosity)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_what_fits_is_loaded(tmp_path):
    for name, config in {
        "2025": config_of(2025),
        "2026": config_of(2026),
        "tied": config_of(2026, tie_word_embeddings=True),
        "gpt2": GPT2Config(n_layer=1, **GPT2),
    }.items():
        load_weights(str(saved(config, tmp_path / name)), None)


def test_masks_that_older_versions_of_transformers_saved_are_no_weights(tmp_path):
    directory = saved(GPT2Config(n_layer=1, **GPT2), tmp_path)
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    masks = {"transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    edit_weights(directory, masks)
    load_weights(str(directory), None)


def test_a_model_without_a_head_takes_weights_with_one(tmp_path):
    """That is transformers' loading and not ours: the class says that it has no use for a head."""
    _, report = NanochatGPTModel.from_pretrained(saved(config_of(), tmp_path), output_loading_info=True)
    assert not any(report.values())
