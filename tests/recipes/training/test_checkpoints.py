"""A checkpoint of another model is refused in one line that says which it is."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.checkpoints import check_same_model
from recipes.utils.errors import InputError


def model_of(generation: int = 2025, depth: int = 2, **settings) -> NanochatGPTForCausalLM:
    with torch.device("meta"):
        config = NanochatGPTConfig.from_depth(depth, 700, head_dim=32, generation=generation, **settings)
        return NanochatGPTForCausalLM(config)


def gpt2() -> GPT2LMHeadModel:
    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, n_positions=64, vocab_size=700))


OURS = "generation 2025 (2 layers, 128 wide, 700 tokens)"


@pytest.mark.parametrize(
    ("saved", "there"),
    [
        (model_of(2026), "generation 2026 (2 layers, 128 wide, 700 tokens)"),
        (model_of(depth=4), "generation 2025 (4 layers, 256 wide, 700 tokens)"),
        (gpt2(), "architecture gpt2 (1 layers, 32 wide, 700 tokens)"),
    ],
    ids=["2026", "deeper", "gpt2"],
)
def test_a_checkpoint_of_another_model_is_told_by_what_both_are(saved, there, tmp_path):
    saved.config.save_pretrained(tmp_path)
    with pytest.raises(InputError) as error:
        check_same_model(model_of(), saved.state_dict(), str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} holds the weights of another model: it is of {there}, and this run's model of {OURS}. "
        "Resume it with the settings that it was saved with, or start without it."
    )


def test_without_its_config_the_weights_tell(tmp_path):
    with pytest.raises(InputError, match="another model: they have 4 layers and not 2. Resume"):
        check_same_model(model_of(), model_of(depth=4).state_dict(), str(tmp_path))


def test_models_of_the_same_sizes_differ_by_a_weight(tmp_path):
    saved = model_of(2026, smear=False)
    saved.config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="another model: model.smear_gate.weight, model.smear_lambda are missing. "):
        check_same_model(model_of(2026), saved.state_dict(), str(tmp_path))


def test_a_tied_head_is_not_missed(tmp_path):
    model = model_of(tie_word_embeddings=True)
    weights = {name: each for name, each in model.state_dict().items() if name != "lm_head.weight"}
    check_same_model(model, weights, str(tmp_path))
